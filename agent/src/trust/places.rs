//! Where programs have their stores: a table for the system, and one for whatever is unpacked into a directory of
//! its own.

/// Where distributions keep their bundle: Debian and Alpine, Fedora before and after 2013, openSUSE old, the OpenSSL
/// and BSD way, openSUSE, Arch, and OpenSSL's own places, which usually lead to one of the others. The first that
/// exists is the system's.
pub(super) const BUNDLES: [&str; 13] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    "/etc/ca-certificates/extracted/cadir/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.trust.crt",
    "/etc/pki/ca-trust/extracted/openssl/ca-bundle.trust.crt",
    "/usr/lib/ssl/cert.pem",
    "/usr/local/ssl/cert.pem",
];

/// Where they keep one file a certificate, named by the hash of its subject.
pub(super) const HASHED_DIRECTORIES: [&str; 6] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted/pem/directory-hash",
    "/var/lib/ca-certificates/openssl",
    "/etc/ca-certificates/extracted/cadir",
    "/usr/lib/ssl/certs",
];

/// Where they keep Java's.
pub(super) const KEYSTORES: [&str; 4] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/etc/pki/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];

/// Directories into which runtimes are installed, by pattern.
pub(super) const PREFIXES: [&str; 28] = [
    "/usr",
    "/usr/local",
    "/usr/lib/jvm/*",
    "/usr/lib64/jvm/*",
    "/usr/java/*",
    "/usr/local/lib/jvm/*",
    "/usr/local/sdkman/candidates/java/*",
    "/usr/local/rbenv/versions/*",
    "/usr/local/rvm/usr",
    "/usr/local/pyenv/versions/*",
    "/usr/local/python*",
    "/usr/local/openssl*",
    "/opt/*",
    "/opt/*/venv",
    "/opt/*/.venv",
    "/opt/*/envs/*",
    "/opt/java/*",
    "/opt/jdk/*",
    "/opt/python/*",
    "/opt/rubies/*",
    "/opt/pipx/venvs/*",
    "/opt/hostedtoolcache/*/*/x64",
    "/opt/hostedtoolcache/*/*/arm64",
    "/srv/*/venv",
    "/srv/*/.venv",
    "/var/lib/*/venv",
    "/home/linuxbrew/.linuxbrew",
    "/home/linuxbrew/.linuxbrew/opt/openjdk*/libexec",
];

/// The same in the command's user's home.
pub(super) const HOME_PREFIXES: [&str; 38] = [
    ".local",
    ".pyenv/versions/*",
    ".virtualenvs/*",
    ".venv",
    "venv",
    ".local/share/virtualenvs/*",
    ".cache/pypoetry/virtualenvs/*",
    ".local/share/hatch/env/virtual/*/*/*",
    ".local/pipx/venvs/*",
    ".local/share/pipx/venvs/*",
    ".local/share/uv/python/*",
    ".local/share/uv/tools/*",
    ".rye/py/*",
    ".local/share/rtx/installs/*/*",
    ".local/share/mise/installs/*/*",
    ".asdf/installs/*/*",
    "miniconda3",
    "miniconda3/envs/*",
    "anaconda3",
    "anaconda3/envs/*",
    "miniforge3",
    "miniforge3/envs/*",
    "mambaforge",
    "mambaforge/envs/*",
    "micromamba",
    "micromamba/envs/*",
    ".conda/envs/*",
    ".sdkman/candidates/java/*",
    ".jdks/*",
    ".gradle/jdks/*",
    ".jenv/versions/*",
    ".jbang/cache/jdks/*",
    ".cache/coursier/jvm/*",
    ".rbenv/versions/*",
    ".rvm/usr",
    ".plenv/versions/*",
    "perl5",
    "perl5/perlbrew/perls/*",
];

/// Variables that name such a directory, or one above such directories, by pattern.
pub(super) const PREFIX_VARIABLES: [(&str, &str); 24] = [
    ("VIRTUAL_ENV", "."),
    ("CONDA_PREFIX", "."),
    ("CONDA_PREFIX_1", "."),
    ("CONDA_ROOT", "."),
    ("CONDA_ROOT", "envs/*"),
    ("MAMBA_ROOT_PREFIX", "."),
    ("MAMBA_ROOT_PREFIX", "envs/*"),
    ("PYTHONHOME", "."),
    ("PYTHONUSERBASE", "."),
    ("PYENV_ROOT", "versions/*"),
    ("WORKON_HOME", "*"),
    ("PIPX_HOME", "venvs/*"),
    ("UV_PROJECT_ENVIRONMENT", "."),
    ("UV_PYTHON_INSTALL_DIR", "*"),
    ("UV_TOOL_DIR", "*"),
    ("JAVA_HOME", "."),
    ("JDK_HOME", "."),
    ("JRE_HOME", "."),
    ("GRAALVM_HOME", "."),
    ("SDKMAN_DIR", "candidates/java/*"),
    ("RBENV_ROOT", "versions/*"),
    ("rvm_path", "usr"),
    ("PLENV_ROOT", "versions/*"),
    ("HOMEBREW_PREFIX", "."),
];

/// Virtual environments of the project in the working directory, also from a directory within it.
pub(super) const PROJECT_PREFIXES: [&str; 5] = [".venv", "venv", "env", ".tox/*", ".nox/*"];

/// Below such a directory: where Python finds packages.
pub(super) const PACKAGES: [&str; 7] = [
    "lib/python*/site-packages",
    "lib/python*/dist-packages",
    "lib64/python*/site-packages",
    "lib/pypy*/site-packages",
    "local/lib/python*/dist-packages",
    "site-packages",
    "share/pyshared",
];

/// In a directory of Python packages: those that come with roots of their own.
pub(super) const PACKAGE_BUNDLES: [&str; 10] = [
    "certifi/cacert.pem",
    "pip/_vendor/certifi/cacert.pem",
    "pipenv/patched/pip/_vendor/certifi/cacert.pem",
    "botocore/cacert.pem",
    "botocore/vendored/requests/cacert.pem",
    "requests/cacert.pem",
    "httplib2/cacerts.txt",
    "boto/cacerts/cacerts.txt",
    "grpc/_cython/_credentials/roots.pem",
    "websocket/cacert.pem",
];

/// Below such a directory: an OpenSSL's own, also conda's and what ruby-build and python-build make. Only beside an
/// `openssl.cnf` do `cert.pem` and `certs` mean that, since servers call their own certificates so, too.
pub(super) const OPENSSL_DIRECTORIES: [&str; 5] =
    ["ssl", "openssl/ssl", "etc/ssl", "etc/openssl*", "lib/ssl"];
pub(super) const OPENSSL_BUNDLES: [&str; 2] = ["cert.pem", "cacert.pem"];

/// Below such a directory: Homebrew's.
pub(super) const PREFIX_BUNDLE: &str = "etc/ca-certificates/cert.pem";

/// Below such a directory: a JDK's keystores, of which `jssecacerts` wins; conda has its JDK in `lib/jvm`.
pub(super) const PREFIX_KEYSTORES: [&str; 6] = [
    "lib/security/jssecacerts",
    "lib/security/cacerts",
    "jre/lib/security/jssecacerts",
    "jre/lib/security/cacerts",
    "lib/jvm/lib/security/jssecacerts",
    "lib/jvm/lib/security/cacerts",
];

/// Below such a directory: where Perl finds modules, on Debian, on Fedora, as it comes, and in local::lib.
pub(super) const MODULES: [&str; 9] = [
    "share/perl5",
    "share/perl5/vendor_perl",
    "share/perl/5*",
    "lib/*/perl5/5*",
    "lib64/perl5/vendor_perl",
    "lib/perl5",
    "lib/perl5/5*",
    "lib/perl5/site_perl/5*",
    "lib/site_perl/5*",
];

/// In a directory of Perl modules.
pub(super) const MODULE_BUNDLE: &str = "Mozilla/CA/cacert.pem";
