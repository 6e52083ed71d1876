//! Where a container's cgroup is, by the name that its runtime gives it: a path with the cgroupfs driver, and
//! `SLICE:PREFIX:NAME` with systemd's.

use std::path::{Component, Path, PathBuf};

/// The cgroup of a container, from the mount's root. None where the name does not tell.
pub fn of_container(cgroups_path: &str) -> Option<PathBuf> {
    if cgroups_path.starts_with('/') {
        return plain(cgroups_path);
    }
    let mut words = cgroups_path.split(':');
    let (slice, prefix, name) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || name.is_empty() || !is_word(prefix) || !is_word(name) {
        return None;
    }
    // Where none is named, the runtimes take the system's.
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    Some(of_slice(slice)?.join(unit))
}

/// The cgroup of a pod, from the mount's root, by what its containers' are in: a path, or with systemd's driver a slice's
/// name, or the path of that. None where the name is not a pod's as the kubelet gives it: whoever makes a pod by hand can put
/// it into a cgroup of others', which the pod is not to be taken for.
pub fn of_pod(cgroup_parent: &str) -> Option<PathBuf> {
    let last = cgroup_parent.rsplit('/').next()?;
    let stem = last.strip_suffix(".slice").unwrap_or(last);
    if !stem.split('-').any(|word| word.starts_with("pod")) {
        return None;
    }
    if last.ends_with(".slice") {
        return of_slice(last);
    }
    plain(cgroup_parent)
}

/// `a-b.slice` lies in `a.slice`.
fn of_slice(name: &str) -> Option<PathBuf> {
    let stem = name.strip_suffix(".slice")?;
    if stem == "-" {
        return Some("/".into());
    }
    if !is_word(stem) || stem.split('-').any(str::is_empty) {
        return None;
    }
    let ends = stem.match_indices('-').map(|(end, _)| end).chain([stem.len()]);
    let mut path = PathBuf::from("/");
    path.extend(ends.filter_map(|end| stem.get(..end)).map(|part| format!("{part}.slice")));
    Some(path)
}

fn plain(path: &str) -> Option<PathBuf> {
    let is_plain = |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    let path = Path::new(path);
    let is_below = path.is_absolute() && path.components().count() > 1;
    // The components once more, without slashes that say nothing.
    (is_below && path.components().all(is_plain)).then(|| path.components().collect())
}

fn is_word(word: &str) -> bool {
    !word.contains('/') && word != "." && word != ".."
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case("/kubepods/burstable/podu-1/c1", Some("/kubepods/burstable/podu-1/c1"); "cgroupfs")]
    #[test_case("/k8s.io//c1/", Some("/k8s.io/c1"); "slashes that say nothing")]
    #[test_case("/kubepods/../c1", None; "through the parent")]
    #[test_case("/", None; "the root")]
    #[test_case("k8s.io/c1", None; "relative to what nobody tells")]
    #[test_case(
        "kubepods-burstable-podu_1.slice:cri-containerd:c1",
        Some("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_1.slice/cri-containerd-c1.scope");
        "containerd with systemd"
    )]
    #[test_case("kubepods-podu.slice:crio:c1", Some("/kubepods.slice/kubepods-podu.slice/crio-c1.scope"); "CRI-O")]
    #[test_case("machine.slice:libpod:c1", Some("/machine.slice/libpod-c1.scope"); "Podman")]
    #[test_case(":docker:c1", Some("/system.slice/docker-c1.scope"); "no slice")]
    #[test_case("a.slice::c1", Some("/a.slice/c1.scope"); "no prefix")]
    #[test_case("a.slice:x:a-b.slice", Some("/a.slice/a-b.slice"); "a slice in it")]
    #[test_case("-.slice:docker:c1", Some("/docker-c1.scope"); "the root slice")]
    #[test_case("a--b.slice:docker:c1", None; "no slice's name")]
    #[test_case("a.slice:docker:../../x", None; "a path in a name")]
    #[test_case("a.slice:docker:", None; "no name")]
    #[test_case("a.slice:docker:c1:d", None; "too many words")]
    #[test_case("", None; "nothing")]
    fn a_containers_cgroup_is_where_its_runtime_puts_it(cgroups_path: &str, expected: Option<&str>) {
        assert_eq!(of_container(cgroups_path).as_deref(), expected.map(Path::new));
    }

    #[test_case("/kubepods/besteffort/podu", Some("/kubepods/besteffort/podu"); "cgroupfs")]
    #[test_case("kubepods-podu.slice", Some("/kubepods.slice/kubepods-podu.slice"); "slice")]
    #[test_case("/kubepods.slice/kubepods-podu.slice", Some("/kubepods.slice/kubepods-podu.slice"); "slice with its path")]
    #[test_case("/kubepods.slice/burstable/podu", Some("/kubepods.slice/burstable/podu"); "not only slices")]
    #[test_case("-.slice", None; "the root slice")]
    #[test_case("system.slice", None; "a slice of others'")]
    #[test_case("/kubepods.slice/kubepods-burstable.slice", None; "all of a class")]
    #[test_case("/kubepods/burstable", None; "all of a class with cgroupfs")]
    #[test_case("", None; "none")]
    #[test_case("/", None; "the root")]
    fn a_pods_cgroup_is_its_containers_parent(parent: &str, expected: Option<&str>) {
        assert_eq!(of_pod(parent).as_deref(), expected.map(Path::new));
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_mount(name in "[a-c/:.-]{0,24}|[a-c.-]{0,8}(\\.slice)?:[a-c]{0,3}:[a-c./-]{0,8}") {
            for path in [of_container(&name), of_pod(&name)].into_iter().flatten() {
                prop_assert!(path.is_absolute());
                prop_assert!(path.components().skip(1).all(|part| matches!(part, Component::Normal(_))), "{path:?}");
            }
        }
    }
}
