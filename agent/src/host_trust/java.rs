//! Java's own keystores: the `cacerts` of each JDK that the distribution does not look after.

use super::{Error, failed, is_ours, name, rooted::Root, run};
use crate::terminate::certificate;
use rustls_pki_types::CertificateDer;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where JDKs are unpacked, one directory each.
const HOMES: [&str; 6] =
    ["/usr/lib/jvm", "/usr/lib64/jvm", "/usr/java", "/opt", "/opt/java", "/usr/local/lib/jvm"];

/// Where a JDK has its keystore: from 9 on, before, and where the home is that of a JRE.
const KEYSTORES: [&str; 3] = ["lib/security/cacerts", "jre/lib/security/cacerts", "lib/security/jssecacerts"];

/// What everybody knows, and every JDK comes with.
const PASSWORD: &str = "changeit";

/// What the copy of a keystore is called that was there before the first change.
const ORIGINAL: &str = "before-tidegate";

/// Imports the certificates into each keystore that has not got them by the distribution's tool, and takes older ones
/// of ours out.
pub(super) fn install(
    root: &Root,
    anchors: &[CertificateDer<'_>],
    done: &mut Vec<String>,
) -> Result<(), Error> {
    for keystore in keystores(root) {
        let content = fs::read(&keystore).map_err(failed("read", &keystore))?;
        let missing: Vec<_> = anchors.iter().filter(|anchor| !holds(&content, anchor)).collect();
        let tool = match Keytool::find(root, &keystore) {
            Some(tool) => tool,
            None if missing.is_empty() => continue,
            None => return Err(Error::NoKeytool(keystore)),
        };
        let have: Vec<String> = tool.aliases(&keystore)?;
        let is_of = |alias: &str, anchor| own_name(alias) == Some(&name(anchor));
        let stale = have.iter().filter(|alias| !anchors.iter().any(|anchor| is_of(alias, anchor)));
        for alias in stale {
            tool.delete(&keystore, alias)?;
            done.push(format!("removed {alias} from {}", keystore.display()));
        }
        // A keystore whose entries are encrypted shows its certificates to keytool alone.
        for anchor in missing.into_iter().filter(|anchor| !have.iter().any(|alias| is_of(alias, anchor))) {
            keep_original(&keystore)?;
            tool.import(&keystore, anchor)?;
            done.push(format!("imported {} into {}", name(anchor), keystore.display()));
        }
    }
    Ok(())
}

/// Takes the certificates out of each keystore; one that nobody else has changed gets its own bytes back.
pub(super) fn uninstall(root: &Root, done: &mut Vec<String>) -> Result<(), Error> {
    for keystore in keystores(root) {
        let original = original_of(&keystore);
        let Some(tool) = Keytool::find(root, &keystore) else {
            if original.exists() {
                return Err(Error::NoKeytool(keystore));
            }
            continue;
        };
        for alias in tool.aliases(&keystore)? {
            tool.delete(&keystore, &alias)?;
            done.push(format!("removed {alias} from {}", keystore.display()));
        }
        if !original.exists() {
            continue;
        }
        if tool.list(&original)? == tool.list(&keystore)? {
            fs::rename(&original, &keystore).map_err(failed("restore", &keystore))?;
            done.push(format!("restored {}", keystore.display()));
        } else {
            fs::remove_file(&original).map_err(failed("remove", &original))?;
            done.push(format!("kept the changes that others have made to {}", keystore.display()));
        }
    }
    Ok(())
}

/// Each keystore once, where its links lead.
fn keystores(root: &Root) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for homes in HOMES {
        let entries = root.resolve(Path::new(homes)).and_then(|path| fs::read_dir(path).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let home = Path::new(homes).join(entry.file_name());
            let places = KEYSTORES.iter().map(|keystore| home.join(keystore));
            found.extend(places.filter_map(|path| root.resolve(&path)).filter(|path| path.is_file()));
        }
    }
    found
}

/// Our name in an alias. Debian's tool makes one of a file's name, and forgets to take it out with the file.
fn own_name(alias: &str) -> Option<&str> {
    let name = match alias.strip_prefix("debian:") {
        Some(file) => file.strip_suffix(".pem")?,
        None => alias,
    };
    is_ours(name).then_some(name)
}

fn holds(keystore: &[u8], anchor: &CertificateDer<'_>) -> bool {
    keystore.windows(anchor.len().max(1)).any(|window| window == &anchor[..])
}

fn original_of(keystore: &Path) -> PathBuf {
    keystore.with_extension(ORIGINAL)
}

fn keep_original(keystore: &Path) -> Result<(), Error> {
    let original = original_of(keystore);
    if original.exists() {
        return Ok(());
    }
    copy(keystore, &original)
}

/// A copy with owner and mode, whole or not there.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let content = fs::read(from).map_err(failed("read", from))?;
    let status = fs::metadata(from).map_err(failed("examine", from))?;
    super::rooted::write(to, &content, status.permissions().mode() & 0o7777)?;
    chown(to, Some(status.uid()), Some(status.gid())).map_err(failed("give away", to))
}

/// A program that reads and writes keystores: the machine's own, else that of the tree.
struct Keytool<'a> {
    program: PathBuf,
    /// Where the program lies in a tree that has to be entered for it.
    tree: Option<&'a Root>,
}

impl<'a> Keytool<'a> {
    fn find(root: &'a Root, keystore: &Path) -> Option<Self> {
        // Of a JDK's keystore, the JDK's own tool knows the format best.
        let home = keystore.ancestors().nth(3).into_iter();
        let own = home.flat_map(|home| [home.join("bin/keytool"), home.join("../bin/keytool")]);
        let usual = super::TOOL_DIRECTORIES.iter().map(|directory| Path::new(directory).join("keytool"));
        if root.is_machine() {
            let program = own.chain(usual).find(|path| path.is_file())?;
            return Some(Self { program, tree: None });
        }
        if let Some(program) = usual.clone().find(|path| path.is_file()) {
            return Some(Self { program, tree: None });
        }
        let own = own
            .filter(|path| path.is_file())
            .find_map(|path| Some(Path::new("/").join(path.strip_prefix(root.path()).ok()?)));
        let program =
            own.or_else(|| usual.clone().find(|path| root.resolve(path).is_some_and(|path| path.is_file())))?;
        Some(Self { program, tree: Some(root) })
    }

    fn command(&self, keystore: &Path, arguments: &[&str]) -> Command {
        let (mut command, keystore) = match self.tree {
            None => (Command::new(&self.program), keystore.to_owned()),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root.path()).arg(&self.program);
                let within = keystore.strip_prefix(root.path()).unwrap_or(keystore);
                (command, Path::new("/").join(within))
            }
        };
        command.args(arguments).arg("-keystore").arg(keystore).args(["-storepass", PASSWORD]);
        command
    }

    /// What keytool tells of all entries.
    fn list(&self, keystore: &Path) -> Result<String, Error> {
        let mut command = self.command(keystore, &["-list"]);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        let tool = || format!("{} -list -keystore {}", self.program.display(), keystore.display());
        let output = command.output().map_err(|source| Error::Start { tool: tool(), source })?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(told);
        }
        Err(Error::Tool { tool: tool(), status: output.status.to_string(), told: told.trim().to_owned() })
    }

    /// Our entries.
    fn aliases(&self, keystore: &Path) -> Result<Vec<String>, Error> {
        let told = self.list(keystore)?;
        let names = told.lines().filter_map(|line| line.split_once(", ")).map(|(name, _)| name);
        Ok(names.filter(|name| own_name(name).is_some()).map(str::to_owned).collect())
    }

    /// keytool writes a keystore in its place, so that a crash would leave half of one: it gets a copy.
    fn change(&self, keystore: &Path, arguments: &[&str]) -> Result<(), Error> {
        let new = keystore.with_extension("tidegate-new");
        copy(keystore, &new)?;
        let told_as =
            format!("{} {} -keystore {}", self.program.display(), arguments.join(" "), new.display());
        let changed = run(self.command(&new, arguments), told_as);
        let put = changed.and_then(|_| fs::rename(&new, keystore).map_err(failed("replace", keystore)));
        if put.is_err() {
            // The keystore is as it was; whether the copy goes makes no difference.
            let _ = fs::remove_file(&new);
        }
        put
    }

    fn delete(&self, keystore: &Path, alias: &str) -> Result<(), Error> {
        self.change(keystore, &["-delete", "-alias", alias])
    }

    fn import(&self, keystore: &Path, anchor: &CertificateDer<'_>) -> Result<(), Error> {
        // Beside the keystore, where both the machine and the tree see it.
        let file = keystore.with_extension("tidegate-anchor");
        super::rooted::write(&file, certificate::pem(anchor).as_bytes(), 0o644)?;
        let seen = match self.tree {
            None => file.clone(),
            Some(root) => Path::new("/").join(file.strip_prefix(root.path()).unwrap_or(&file)),
        };
        let seen = seen.display().to_string();
        let alias = name(anchor);
        let imported = self.change(
            keystore,
            &["-importcert", "-noprompt", "-trustcacerts", "-alias", &alias, "-file", &seen],
        );
        fs::remove_file(&file).map_err(failed("remove", &file))?;
        imported
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("tidegate-1a2b3c4d", Some("tidegate-1a2b3c4d"))]
    #[test_case("debian:tidegate-1a2b3c4d.pem", Some("tidegate-1a2b3c4d"))]
    #[test_case("debian:tidegate-1a2b3c4d", None; "no file's name")]
    #[test_case("tidegate-1a2b3c4d.pem", None; "not debian's")]
    #[test_case("debian:company.pem", None; "another's")]
    fn our_entries_are_known_by_their_aliases(alias: &str, expected: Option<&str>) {
        assert_eq!(own_name(alias), expected);
    }

    #[test]
    fn a_keystore_holds_what_is_in_it_in_the_clear() {
        let anchor = CertificateDer::from(b"certificate".to_vec());
        assert!(holds(b"..certificate..", &anchor));
        assert!(!holds(b"..certificat", &anchor) && !holds(b"", &anchor));
    }
}
