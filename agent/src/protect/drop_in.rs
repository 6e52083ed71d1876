//! The text of a drop-in.

use super::{COPIES, MARK, unit_name::UnitName, words};
use std::path::{Path, PathBuf};

/// What a drop-in says.
#[derive(Debug)]
pub(super) struct DropIn<'a> {
    pub(super) unit: &'a UnitName,
    /// The workloads' names, for whoever reads it.
    pub(super) workloads: &'a [&'a str],
    pub(super) cgroup: &'a str,
    /// The merged copies, and what they lie over.
    pub(super) binds: &'a [(PathBuf, PathBuf)],
    pub(super) variables: &'a [(String, String)],
}

impl DropIn<'_> {
    /// The text; warnings tell what could not be written in it.
    pub(super) fn text(&self) -> (String, Vec<String>) {
        let mut warnings = Vec::new();
        let mut lines = vec![
            format!("{MARK}: its programs trust the local CA, and never start without the daemon."),
            format!(
                "# `tidegate protect {0}` writes it again; `tidegate unprotect {0}` takes it away.",
                self.unit
            ),
            format!("# The workload is `{}`, by the cgroup {}", self.workloads.join("`, `"), self.cgroup),
            "[Unit]".to_owned(),
            "Requires=tidegate.service".to_owned(),
            "After=tidegate.service".to_owned(),
            String::new(),
            "[Service]".to_owned(),
            // Also where the unit has a /run of its own.
            format!("BindReadOnlyPaths={COPIES}"),
        ];
        for (copy, store) in self.binds {
            match (path(copy), path(store)) {
                (Some(copy), Some(store)) => lines.push(format!("BindReadOnlyPaths={copy}:{store}")),
                _ => warnings.push(format!(
                    "`{}` has a name that a unit file cannot hold, and stays as it is: programs that read it will refuse \
                     tidegate's certificates",
                    store.to_string_lossy().escape_debug()
                )),
            }
        }
        for (name, value) in self.variables {
            match words::quote(&format!("{name}={value}")) {
                Some(word) => lines.push(format!("Environment={word}")),
                None => warnings.push(format!("{name} cannot be written into a unit file, and is not set")),
            }
        }
        (lines.join("\n") + "\n", warnings)
    }
}

/// Versions of systemd differ in what a backslash does in a path, so there is none.
fn path(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(['\\', '"']))?;
    words::quote(text)
}

/// What the drop-in lays over something, as it was written.
pub(super) fn copies(text: &str) -> Vec<PathBuf> {
    let binds = text.lines().filter_map(|line| line.strip_prefix("BindReadOnlyPaths="));
    binds.filter_map(|value| value.split_once(':')).map(|(copy, _)| PathBuf::from(copy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_is_what_systemd_reads() {
        let unit = UnitName::parse("web").unwrap();
        let binds = [
            ("/run/tidegate/trust/etc-ssl-certs".into(), "/etc/ssl/certs".into()),
            ("/run/tidegate/trust/opt-_61".into(), "/opt/my app:100%/cacert.pem".into()),
            ("/run/tidegate/trust/x".into(), "/opt/a\\b".into()),
        ];
        let variables = [
            ("NODE_EXTRA_CA_CERTS".to_owned(), "/run/tidegate/trust/ca.pem".to_owned()),
            ("JAVA_TOOL_OPTIONS".to_owned(), "-Da=\"b c\" -D%d".to_owned()),
        ];
        let drop_in = DropIn {
            unit: &unit,
            workloads: &["ci"],
            cgroup: "/system.slice/web.service",
            binds: &binds,
            variables: &variables,
        };
        let (text, warnings) = drop_in.text();
        let expected = r#"# Written by tidegate protect: its programs trust the local CA, and never start without the daemon.
# `tidegate protect web.service` writes it again; `tidegate unprotect web.service` takes it away.
# The workload is `ci`, by the cgroup /system.slice/web.service
[Unit]
Requires=tidegate.service
After=tidegate.service

[Service]
BindReadOnlyPaths=/run/tidegate/trust
BindReadOnlyPaths=/run/tidegate/trust/etc-ssl-certs:/etc/ssl/certs
BindReadOnlyPaths=/run/tidegate/trust/opt-_61:"/opt/my app:100%%/cacert.pem"
Environment=NODE_EXTRA_CA_CERTS=/run/tidegate/trust/ca.pem
Environment="JAVA_TOOL_OPTIONS=-Da=\"b c\" -D%%d"
"#;
        assert_eq!(text, expected);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains(r"/opt/a\\b"), "{warnings:?}");
        let sources = ["/run/tidegate/trust/etc-ssl-certs", "/run/tidegate/trust/opt-_61"];
        assert_eq!(copies(&text), sources.map(PathBuf::from));
    }
}
