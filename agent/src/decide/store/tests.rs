use super::*;
use crate::decide::grant::Grant;
use crate::identify::Workload;
use std::path::Path;
use test_case::test_case;

const READ: &str = "allow = [\"droplet:read\"]\n";
const WRITE: &str = "allow = [\"droplet:read\", \"droplet:create\"]\n";

fn source(name: &str, text: &str) -> Source {
    Source::from_bytes(Path::new(name), text.as_bytes().to_vec()).unwrap()
}

fn set(files: &[(&str, &str)]) -> Result<PolicySet, LoadError> {
    let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
    PolicySet::load(&sources, Catalogue::embedded())
}

fn allowed(policy: &Policy) -> usize {
    policy.allow.iter().filter(|grant| !matches!(grant, Grant::ApiRead | Grant::ApiWrite)).count()
}

#[test]
fn a_set_with_one_bad_file_is_none() {
    let error = set(&[("good.toml", READ), ("bad.toml", "allow = []\nalow = []\n")]).unwrap_err();
    assert!(error.to_string().contains("bad.toml:2: "), "{error}");
}

#[test]
fn a_set_that_does_not_load_or_lacks_a_policy_changes_nothing() {
    let store = Store::new(set(&[("a.toml", READ), ("b.toml", READ)]).unwrap());
    let before = store.current().digest().to_owned();
    let missing = store.replace(set(&[("a.toml", WRITE)]).unwrap()).unwrap_err();
    assert_eq!(missing.name, "b");
    assert_eq!(store.current().digest(), before);
    assert_eq!(allowed(store.current().policy("a").unwrap()), 1);
}

#[test]
fn a_replacement_names_what_it_changes() {
    let store = Store::new(set(&[("a.toml", READ), ("b.toml", READ)]).unwrap());
    let unchanged = Arc::clone(store.current().policy("a").unwrap());
    let new = [("a.toml", "# the same\nallow = [\"droplet:read\"]\n"), ("b.toml", WRITE), ("c.toml", READ)];
    let change = store.replace(set(&new).unwrap()).unwrap();
    assert_eq!(change.policies, ["b", "c"]);
    assert_ne!(change.before, change.after);
    assert_eq!(store.current().digest(), &*change.after);
    assert!(Arc::ptr_eq(&unchanged, store.current().policy("a").unwrap()));
    let again = store.replace(set(&new).unwrap()).unwrap();
    assert_eq!((again.before == again.after, again.policies.len()), (true, 0));
}

fn workloads(list: &[(&str, &str)]) -> Arc<[Workload]> {
    list.iter().map(|(name, policy)| Workload { name: (*name).into(), policy: (*policy).into() }).collect()
}

#[test]
fn a_request_keeps_what_was_in_force_when_it_began() {
    let store = Arc::new(Store::new(set(&[("a.toml", READ)]).unwrap()));
    let handle = Handle::new(Arc::clone(&store), workloads(&[("w", "a")]));
    let begun = handle.current();
    let change = store.replace(set(&[("a.toml", WRITE)]).unwrap()).unwrap();
    assert_eq!((allowed(&begun.parties[0].policy), &begun.digest), (1, &change.before));
    let next = handle.current();
    assert_eq!((allowed(&next.parties[0].policy), &next.digest), (2, &change.after));
}

#[test]
fn a_policy_that_is_in_no_set_denies() {
    let store = Arc::new(Store::new(set(&[("a.toml", WRITE)]).unwrap()));
    let parties = Handle::new(Arc::clone(&store), workloads(&[("w", "b"), ("v", "a")])).current().parties;
    assert_eq!(*parties[0].policy, Policy { name: "b".to_owned(), ..Policy::default() });
    assert_eq!((&*parties[1].workload, parties[1].policy.name.as_str()), ("v", "a"));
    let nobody = Handle::new(store, workloads(&[])).current().parties;
    assert_eq!((nobody.len(), allowed(&nobody[0].policy)), (1, 0));
}

#[test_case(&[("a.toml", "1"), ("b.toml", "2")], &[("b.toml", "2"), ("a.toml", "1")], true; "the order of files")]
#[test_case(&[("/x/a.toml", "1")], &[("/y/a.toml", "1")], true; "the directory")]
#[test_case(&[("a.toml", "1")], &[("a.toml", "2")], false; "the content")]
#[test_case(&[("a.toml", "1")], &[("b.toml", "1")], false; "the name")]
#[test_case(&[("a.toml", "1"), ("b.toml", "2")], &[("a.toml", "2"), ("b.toml", "1")], false; "which has which")]
#[test_case(&[("a.toml", "1b.toml2")], &[("a.toml", "1"), ("b.toml", "2")], false; "one file or two")]
#[test_case(&[("a", "bc")], &[("ab", "c")], false; "where the name ends")]
#[test_case(&[], &[("a", "")], false; "no file or an empty one")]
fn the_digest_is_of_names_and_contents(one: &[(&str, &str)], other: &[(&str, &str)], equal: bool) {
    let of = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
        digest(&sources)
    };
    assert_eq!(of(one) == of(other), equal);
    assert!(of(one).len() == 64 && of(one).bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn the_built_in_set_has_the_policy_that_only_reads() {
    let set = PolicySet::built_in(Catalogue::embedded()).unwrap();
    assert_eq!(set.names().collect::<Vec<_>>(), ["read-only"]);
    assert_eq!(set.policy("read-only").unwrap().allow, [Grant::ApiRead]);
}
