//! What a service's own files say, before anything of ours.
//!
//! They are read as systemd does, and not asked of it: it would tell what our drop-in has made of them, and there is
//! none in an image.

use super::{Error, MARK, failed, unit_name::UnitName, words};
use crate::host_trust::Root;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// Where systemd looks for units, the first before the others.
const DIRECTORIES: [&str; 12] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
    "/run/systemd/system.attached",
];

/// What one service is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its own name, which another may have led to.
    pub(super) name: UnitName,
    /// Its slice, as it is written.
    pub(super) slice: String,
    /// `User=`, as it is written.
    pub(super) user: Option<String>,
    /// `RootDirectory=` or `RootImage=`.
    pub(super) own_root: Option<String>,
    /// The words of all that it runs.
    pub(super) command: Vec<OsString>,
    /// Where it runs.
    pub(super) working_directory: Option<PathBuf>,
    /// Its user's home.
    pub(super) home: Option<PathBuf>,
    /// Its variables; those of its files come last, as they do for systemd.
    pub(super) environment: BTreeMap<String, String>,
    /// What cannot be known of its variables.
    pub(super) warnings: Vec<String>,
}

impl Unit {
    /// Reads the service's files.
    pub(super) fn read(root: &Root, name: &UnitName) -> Result<Self, Error> {
        let (name, fragment) = find(root, name)?;
        let mut files = vec![fragment];
        files.extend(drop_ins(root, &name)?);
        let mut settings = Settings::default();
        for file in &files {
            let bytes = fs::read(file).map_err(failed("read", file))?;
            let text = String::from_utf8_lossy(&bytes);
            if !text.starts_with(MARK) {
                settings.read(&text, file);
            }
        }
        Ok(settings.finish(root, name))
    }
}

/// The file that makes the unit, under the unit's own name.
fn find(root: &Root, asked: &UnitName) -> Result<(UnitName, PathBuf), Error> {
    let candidates: Vec<UnitName> = std::iter::once(asked.clone()).chain(asked.template()).collect();
    for (index, candidate) in candidates.iter().enumerate() {
        for directory in DIRECTORIES {
            let Some(directory) = root.resolve(Path::new(directory)) else { continue };
            let listed = directory.join(candidate.as_str());
            if fs::read_link(&listed).is_ok_and(|target| target == Path::new("/dev/null")) {
                return Err(Error::Masked { unit: asked.clone(), path: listed });
            }
            let within = Path::new("/").join(listed.strip_prefix(root.path()).unwrap_or(&listed));
            let Some(file) = root.resolve(&within) else { continue };
            if !file.is_file() {
                continue;
            }
            // A link to another unit's file is another name of that unit.
            let real =
                file.file_name().and_then(|name| name.to_str()).and_then(|name| UnitName::parse(name).ok());
            let name = match real {
                Some(real) if real != *candidate && index == 0 && !real.is_template() => real,
                Some(_) | None => asked.clone(),
            };
            return Ok((name, file));
        }
    }
    Err(Error::NoUnit { unit: asked.clone(), root: root.path().to_owned() })
}

/// The drop-ins of the unit, in the order in which they count.
fn drop_ins(root: &Root, name: &UnitName) -> Result<Vec<PathBuf>, Error> {
    let mut owners = vec![name.as_str().to_owned()];
    owners.extend(name.template().map(|template| template.as_str().to_owned()));
    // `a-b-c.service` also has the drop-ins of `a-b-.service` and of `a-.service`.
    let prefix = name.prefix();
    let ends = prefix.match_indices('-').map(|(end, _)| end + 1).filter(|&end| end < prefix.len());
    let mut beginnings: Vec<String> =
        ends.filter_map(|end| prefix.get(..end)).map(|head| format!("{head}.service")).collect();
    beginnings.reverse();
    owners.extend(beginnings);
    owners.push("service".to_owned());
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for owner in &owners {
        for directory in DIRECTORIES {
            let Some(directory) = root.resolve(&Path::new(directory).join(format!("{owner}.d"))) else {
                continue;
            };
            if !directory.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&directory).map_err(failed("read", &directory))? {
                let path = entry.map_err(failed("read", &directory))?.path();
                let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !file_name.ends_with(".conf")
                    || file_name.starts_with('.')
                    || found.contains_key(&file_name)
                {
                    continue;
                }
                let within = Path::new("/").join(path.strip_prefix(root.path()).unwrap_or(&path));
                found.insert(file_name, root.resolve(&within).unwrap_or(path));
            }
        }
    }
    Ok(found.into_values().filter(|path| path.is_file()).collect())
}

/// The keys that matter, from one file after the other.
#[derive(Debug, Default)]
struct Settings {
    slice: Option<String>,
    user: Option<String>,
    own_root: BTreeMap<&'static str, String>,
    working_directory: Option<String>,
    commands: BTreeMap<String, Vec<String>>,
    environment: Vec<(String, String)>,
    files: Vec<String>,
    warnings: Vec<String>,
}

impl Settings {
    fn read(&mut self, text: &str, path: &Path) {
        let mut section = String::new();
        for line in logical_lines(text) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if section == "Service"
                && let Some((key, value)) = line.split_once('=')
            {
                self.set(key.trim_end(), value.trim_start(), path);
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, path: &Path) {
        let some = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "Slice" => self.slice = some,
            "User" => self.user = some,
            "RootDirectory" => self.set_root("RootDirectory", some),
            "RootImage" => self.set_root("RootImage", some),
            "Environment" if value.is_empty() => self.environment.clear(),
            "Environment" => match words::split(value) {
                Some(words) => {
                    let pairs = words.iter().filter_map(|word| word.split_once('='));
                    self.environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                }
                None => self.warnings.push(format!(
                    "`{}` has an `Environment=` whose quotes do not end; systemd takes nothing of it",
                    path.display()
                )),
            },
            "WorkingDirectory" => self.working_directory = some,
            _ if key.starts_with("Exec") => {
                let lines = self.commands.entry(key.to_owned()).or_default();
                match some {
                    Some(line) => lines.push(line),
                    None => lines.clear(),
                }
            }
            "EnvironmentFile" if value.is_empty() => self.files.clear(),
            "EnvironmentFile" => self.files.push(value.to_owned()),
            _ => {}
        }
    }

    fn set_root(&mut self, key: &'static str, value: Option<String>) {
        match value {
            // `/` is what everybody has.
            Some(value) if value != "/" => self.own_root.insert(key, value),
            Some(_) | None => self.own_root.remove(key),
        };
    }

    fn finish(self, root: &Root, name: UnitName) -> Unit {
        let Self { slice, user, own_root, working_directory, commands, environment, files, mut warnings } =
            self;
        let mut resolved: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in environment {
            // A value that only systemd knows is kept as it is written: no file has that name.
            let value = words::without_specifiers(&value).unwrap_or(value);
            resolved.insert(name, value);
        }
        for file in files {
            let path = file.strip_prefix('-').unwrap_or(&file);
            let text = words::without_specifiers(path)
                .and_then(|path| root.resolve(Path::new(&path)))
                .and_then(|path| fs::read(path).ok());
            match text {
                Some(text) => resolved.extend(environment_file(&String::from_utf8_lossy(&text))),
                None if file.starts_with('-') => {}
                None => warnings.push(format!(
                    "`EnvironmentFile={file}` cannot be read now; if it sets a variable that names certificates, that \
                     comes before tidegate's"
                )),
            }
        }
        let slice = slice.unwrap_or_else(|| name.default_slice());
        let own_root = own_root.into_iter().next().map(|(key, value)| format!("{key}={value}"));
        let home = home(root, user.as_deref().unwrap_or("root"));
        let working_directory = match working_directory.as_deref().map(|path| path.trim_start_matches('-')) {
            Some("~") => home.clone(),
            path => path.and_then(words::without_specifiers).map(PathBuf::from),
        };
        // What stands before the program, such as `-` or `+`, says how it is run.
        let program = |line: &String| line.trim_start_matches(['-', '@', ':', '+', '!', '|']).to_owned();
        let lines = commands.values().flatten().map(program);
        let command = lines.filter_map(|line| words::split(&line)).flatten().map(OsString::from).collect();
        Unit {
            name,
            slice,
            user,
            own_root,
            command,
            working_directory,
            home,
            environment: resolved,
            warnings,
        }
    }
}

/// The user's home by the system's own list.
fn home(root: &Root, user: &str) -> Option<PathBuf> {
    let list = fs::read(root.resolve(Path::new("/etc/passwd"))?).ok()?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let is_user = |fields: &Vec<&str>| fields.first() == Some(&user) || fields.get(2) == Some(&user);
    let fields = list.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(is_user)?;
    fields.get(5).filter(|home| home.len() > 1 && home.starts_with('/')).map(PathBuf::from)
}

/// The lines without comments, those that a backslash continues in one.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && begun.is_none()) {
            continue;
        }
        let mut whole = begun.take().unwrap_or_default();
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                whole.push(' ');
                begun = Some(whole);
            }
            None => {
                whole.push_str(line);
                lines.push(whole.trim().to_owned());
            }
        }
    }
    lines.extend(begun.map(|line| line.trim().to_owned()));
    lines
}

/// The variables of an `EnvironmentFile=`, whose lines are a shell's without its expansions.
fn environment_file(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for line in logical_lines(text) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = name.trim();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !is_name {
            continue;
        }
        variables.push((name.to_owned(), unquoted(value.trim())));
    }
    variables
}

fn unquoted(value: &str) -> String {
    let mut plain = String::new();
    let mut quote = None;
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        match (quote, character) {
            (Some(end), _) if character == end => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None | Some('"'), '\\') => plain.extend(rest.next()),
            (Some(_) | None, _) => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
