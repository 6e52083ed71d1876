//! Finds the stores, by known places: no tree is walked, and no program is run.

use super::{
    Found, Kind, Password, Store, Surroundings, java_options, places, settings,
    tree::{self, Place, Tree},
    variables::{self, Form, Named, Setting},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// More stores than this are not looked after.
const MAX_STORES: usize = 512;
/// How many words of the command may name programs.
const MAX_WORDS: usize = 64;
/// How far up from the working directory its project can begin.
const MAX_ANCESTORS: usize = 8;
/// What a first line or a `pyvenv.cfg` can have.
const MAX_NOTE: u64 = 64 << 10;

/// A search at work.
pub(super) struct Search<'a> {
    pub(super) tree: Tree,
    pub(super) surroundings: &'a Surroundings<'a>,
    stores: BTreeMap<PathBuf, Store>,
    system_bundle: Option<PathBuf>,
    configured: BTreeMap<&'static str, Vec<Named>>,
    is_cut_short: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(tree: Tree, surroundings: &'a Surroundings<'a>) -> Self {
        Self {
            tree,
            surroundings,
            stores: BTreeMap::new(),
            system_bundle: None,
            configured: BTreeMap::new(),
            is_cut_short: false,
        }
    }

    pub(super) fn run(mut self) -> Found {
        self.system();
        let prefixes = self.prefixes();
        prefixes.iter().for_each(|prefix| self.prefix(prefix));
        self.search_paths();
        settings::search(&mut self, &prefixes);
        // Last, since it is told what the settings name.
        let variables = variables::plan(|name, form| self.setting(name, form));
        // Theirs cannot be replaced by what the system trusts, so these get no fallback.
        let bundle = self.system_bundle.as_ref().and_then(|path| self.stores.get(path)).cloned();
        if let Some(bundle) = &bundle {
            self.stores.values_mut().for_each(|store| store.fallback = Some(bundle.source.clone()));
        }
        java_options::search(&mut self);
        let mut warnings = Vec::new();
        if self.is_cut_short || self.tree.is_exhausted() {
            warnings
                .push("there is more than the search for trust stores looks at: some may be missing".into());
        }
        Found { stores: self.stores.into_values().collect(), system_bundle: bundle, variables, warnings }
    }

    /// What the user has set a variable to, or else what the settings say of the same.
    fn setting(&mut self, name: &'static str, form: Form) -> Setting {
        match (self.surroundings.lookup)(name).filter(|value| !value.is_empty()) {
            Some(_) if form == Form::Word => Setting::Word,
            Some(value) => {
                let paths = variables::paths(&value, form);
                Setting::Stores(paths.into_iter().map(|given| self.named(given)).collect())
            }
            None => self.configured.remove(name).map_or(Setting::Unset, Setting::Stores),
        }
    }

    fn system(&mut self) {
        for path in places::BUNDLES {
            let found = self.bundle(Path::new(path));
            if self.system_bundle.is_none() {
                self.system_bundle = found;
            }
        }
        for path in places::HASHED_DIRECTORIES {
            self.hashed_directory(Path::new(path));
        }
        for path in places::KEYSTORES {
            self.keystore(Path::new(path), &Password::default());
        }
    }

    /// Directories into which runtimes are installed, each once, where its links lead.
    fn prefixes(&self) -> BTreeSet<PathBuf> {
        let mut candidates: Vec<PathBuf> = Vec::new();
        let mut below = |base: &Path, pattern: &str| candidates.extend(self.tree.glob(base, pattern));
        for pattern in places::PREFIXES {
            below(Path::new("/"), pattern.trim_start_matches('/'));
        }
        for pattern in self.surroundings.home.iter().flat_map(|_| places::HOME_PREFIXES) {
            below(self.surroundings.home.unwrap_or(Path::new("/")), pattern);
        }
        for (name, pattern) in places::PREFIX_VARIABLES {
            for path in self.paths_of(name) {
                below(&path, pattern);
            }
        }
        for directory in self.project() {
            places::PROJECT_PREFIXES.iter().for_each(|pattern| below(directory, pattern));
        }
        for program in self.programs() {
            // Once as it is named, since a link in a virtual environment is what makes it one.
            let leads_to = self.tree.resolve(&program).map(|place| place.path);
            for program in leads_to.into_iter().chain([program]) {
                candidates.extend(program.ancestors().nth(2).map(Path::to_owned));
            }
        }
        for directory in self.paths_of("PATH") {
            candidates.extend(directory.parent().map(Path::to_owned));
        }
        let directory = |path: &PathBuf| {
            let place = self.tree.resolve(path).filter(|place| place.is_directory)?;
            (place.path != Path::new("/")).then_some(place.path)
        };
        let mut prefixes: BTreeSet<_> = candidates.iter().filter_map(directory).collect();
        let bases: Vec<_> = prefixes.iter().filter_map(|prefix| self.base_of(prefix)).collect();
        prefixes.extend(bases.iter().filter_map(directory));
        prefixes
    }

    /// The installation of Python that a virtual environment is made from.
    fn base_of(&self, prefix: &Path) -> Option<PathBuf> {
        let text = self.tree.read(&prefix.join("pyvenv.cfg"), MAX_NOTE).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("home")?.trim_start().strip_prefix('='))?;
        Path::new(line.trim()).parent().map(Path::to_owned)
    }

    /// Programs by which the command may find a runtime: those that its words name, with the interpreters that their
    /// first lines name, and the usual ones of PATH.
    fn programs(&self) -> Vec<PathBuf> {
        const USUAL: [&str; 5] = ["python3", "python", "java", "perl", "ruby"];
        let words = self.surroundings.command.iter().flat_map(|argument| {
            argument.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
        });
        let words = words.take(MAX_WORDS).map(OsStr::from_bytes).chain(USUAL.iter().map(OsStr::new));
        let mut programs: Vec<PathBuf> = Vec::new();
        for word in words {
            if word.as_bytes().contains(&b'/') {
                programs.extend(tree::absolute(Path::new(word), self.surroundings.working_directory));
            } else {
                programs.extend(self.paths_of("PATH").into_iter().map(|directory| directory.join(word)));
            }
        }
        programs.retain(|program| self.tree.resolve(program).is_some_and(|place| !place.is_directory));
        let interpreters: Vec<_> = programs.iter().filter_map(|program| self.interpreter(program)).collect();
        programs.extend(interpreters);
        programs
    }

    fn interpreter(&self, program: &Path) -> Option<PathBuf> {
        let head = self.tree.read_head(program)?;
        let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?.trim_ascii_start();
        let word = line.split(u8::is_ascii_whitespace).next()?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(word.to_vec())))
    }

    fn prefix(&mut self, prefix: &Path) {
        for packages in
            places::PACKAGES.iter().flat_map(|pattern| self.tree.glob(prefix, pattern)).collect::<Vec<_>>()
        {
            self.packages(&packages);
        }
        for modules in
            places::MODULES.iter().flat_map(|pattern| self.tree.glob(prefix, pattern)).collect::<Vec<_>>()
        {
            self.bundle(&modules.join(places::MODULE_BUNDLE));
        }
        for path in places::PREFIX_KEYSTORES {
            self.keystore(&prefix.join(path), &Password::default());
        }
        for path in places::OPENSSL_DIRECTORIES
            .iter()
            .flat_map(|pattern| self.tree.glob(prefix, pattern))
            .collect::<Vec<_>>()
        {
            self.openssl(&path);
        }
        self.bundle(&prefix.join(places::PREFIX_BUNDLE));
    }

    fn packages(&mut self, packages: &Path) {
        if self.tree.resolve(packages).is_some_and(|place| place.is_directory) {
            for bundle in places::PACKAGE_BUNDLES {
                self.bundle(&packages.join(bundle));
            }
        }
    }

    fn openssl(&mut self, directory: &Path) {
        if self.tree.resolve(&directory.join("openssl.cnf")).is_none() {
            return;
        }
        for bundle in places::OPENSSL_BUNDLES {
            self.bundle(&directory.join(bundle));
        }
        let certificates = directory.join("certs");
        if self.tree.glob(&certificates, "*.0").into_iter().next().is_some() {
            self.hashed_directory(&certificates);
        }
    }

    /// Where Python and Perl look for packages first.
    fn search_paths(&mut self) {
        for directory in self.paths_of("PYTHONPATH") {
            self.packages(&directory);
        }
        for directory in self.paths_of("PERL5LIB") {
            self.bundle(&directory.join(places::MODULE_BUNDLE));
        }
    }

    /// The absolute paths that a variable lists.
    pub(super) fn paths_of(&self, name: &str) -> Vec<PathBuf> {
        let value = (self.surroundings.lookup)(name).unwrap_or_default();
        let parts = value.as_bytes().split(|&byte| byte == b':').filter(|part| !part.is_empty());
        let path =
            |part| tree::absolute(Path::new(OsStr::from_bytes(part)), self.surroundings.working_directory);
        parts.filter_map(path).collect()
    }

    /// The working directory and those above it.
    pub(super) fn project(&self) -> impl Iterator<Item = &'a Path> + use<'a> {
        self.surroundings.working_directory.into_iter().flat_map(Path::ancestors).take(MAX_ANCESTORS)
    }

    /// A file or directory of PEM certificates that the user names.
    pub(super) fn named(&mut self, given: PathBuf) -> Named {
        let path = tree::absolute(&given, self.surroundings.working_directory);
        let store = path.and_then(|path| self.bundle(&path).or_else(|| self.hashed_directory(&path)));
        Named { given, store }
    }

    /// What a tool's settings name, which its variable would put aside.
    pub(super) fn configured(&mut self, variable: &'static str, named: Named) {
        self.configured.entry(variable).or_default().push(named);
    }

    pub(super) fn bundle(&mut self, path: &Path) -> Option<PathBuf> {
        let place = self.tree.resolve(path).filter(|place| !place.is_directory)?;
        self.add(place, Kind::Bundle, Password::default())
    }

    fn hashed_directory(&mut self, path: &Path) -> Option<PathBuf> {
        let place = self.tree.resolve(path).filter(|place| place.is_directory)?;
        self.add(place, Kind::HashedDirectory, Password::default())
    }

    pub(super) fn keystore(&mut self, path: &Path, password: &Password) -> Option<PathBuf> {
        let place = self.tree.resolve(path).filter(|place| !place.is_directory)?;
        self.add(place, Kind::Keystore, password.clone())
    }

    fn add(&mut self, place: Place, kind: Kind, password: Password) -> Option<PathBuf> {
        let Place { path, source, .. } = place;
        if self.stores.len() >= MAX_STORES && !self.stores.contains_key(&path) {
            self.is_cut_short = true;
            return None;
        }
        let store = Store { path: path.clone(), kind, source, password: password.clone(), fallback: None };
        let known = self.stores.entry(path.clone()).or_insert(store);
        if password != Password::default() {
            known.password = password;
        }
        Some(path)
    }
}
