//! Operations that no scope of their own stands for.

use super::*;
use test_case::test_case;

#[test]
fn operations_allows_by_name_what_has_no_scope_and_nothing_else() {
    let named = Policy { operations: vec!["other".to_owned(), "op".to_owned()], ..Policy::default() };
    assert_eq!(answer(&named, &operation(Method::GET, &[])).0, "operation_allowed operations[1]");
    assert_eq!(answer(&named, &operation(Method::GET, &["a:read"])).0, "missing_scope default");
    let denied = Policy { deny: grants("api:read"), ..named };
    assert_eq!(answer(&denied, &operation(Method::GET, &[])).0, "denied_scope deny[0]");
}

/// Else a client could name what it may do to be given what nobody has named.
#[test_case("b:create", false, "no_scope_defined default"; "the scope alone")]
#[test_case("a:*", true, "missing_scope default"; "the name alone")]
#[test_case("a:* b:create", true, "scopes_allowed operations[0]"; "both")]
fn what_has_no_scope_has_to_be_named_whatever_else_it_needs(allow: &str, named: bool, expected: &str) {
    let unscoped = operation(Method::POST, &[]);
    let condition = condition("b:create");
    let headers = HeaderMap::new();
    let request =
        Request { needs: needing(&condition), ..Request::new(&Method::POST, &headers, Some(&unscoped)) };
    let operations = named.then(|| "op".to_owned()).into_iter().collect();
    let decision = decide(&Policy { operations, ..policy(allow, "") }, &request);
    assert_eq!(format!("{} {}", decision.reason, decision.rule), expected);
}
