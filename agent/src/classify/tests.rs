use super::*;
use proptest::prelude::*;
use test_case::test_case;

fn classified(
    method: &str,
    target: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<Classified<'static, 'static>, Error> {
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    // A test's few bytes may stay, so that what borrows from them can be handed back.
    let uri = Box::leak(Box::new(target.parse().unwrap()));
    classify(Catalogue::embedded(), &method, uri, &headers.collect())
}

#[test]
fn a_request_becomes_an_operation() {
    let classified = classified("DELETE", "/v2/droplets/3164444?a=%20b&c", &[]).unwrap();
    assert_eq!(classified.path.as_str(), "/v2/droplets/3164444");
    assert_eq!(classified.query, Some("a=%20b&c"));
    let route = classified.route.unwrap();
    assert_eq!(route.operation.name, "droplets_destroy");
    assert_eq!(route.parameters, [("droplet_id", "3164444".into())]);
}

#[test_case("https://api.digitalocean.com/v2/account", Some("account_get"); "absolute form")]
#[test_case("/v2/account?", Some("account_get"); "empty query")]
#[test_case("/v2/account#part", Some("account_get"); "fragment, which is not sent on")]
#[test_case("/v2/unheard-of", None; "unknown path")]
#[test_case("/v2/droplets/1/unheard.of", None; "unknown path with a dot")]
#[test_case("/v2/tags/Droplets.json", Some("tags_get"); "a value may look like a file")]
fn reads_are_classified(target: &str, expected: Option<&str>) {
    let classified = classified("GET", target, &[]).unwrap();
    assert_eq!(classified.route.map(|route| route.operation.name.as_str()), expected);
}

#[test_case("CONNECT", "/v2/droplets", Reason::MethodRefused)]
#[test_case("TRACE", "/v2/droplets", Reason::MethodRefused)]
#[test_case("PROPFIND", "/v2/droplets", Reason::MethodRefused)]
#[test_case("get", "/v2/droplets", Reason::MethodRefused; "lower case")]
#[test_case("GET", "/v2//droplets", Reason::PathNotCanonical; "empty segment")]
#[test_case("OPTIONS", "*", Reason::PathNotCanonical; "star form")]
#[test_case("DELETE", "/v2/droplets%2F1", Reason::PathNotCanonical; "escaped slash between literals")]
#[test_case("GET", "/v2/domains/a%2Fb", Reason::PathNotCanonical; "escaped slash in a name without slashes")]
#[test_case("GET", "/v2/unheard%2Fof", Reason::PathNotCanonical; "escaped slash in an unknown path")]
#[test_case("POST", "/V2/Droplets", Reason::PathNotCanonical; "upper case")]
#[test_case("POST", "/v2/droplets.json", Reason::PathNotCanonical; "file name extension")]
#[test_case("POST", "/v2/droplets.JSON.gz", Reason::PathNotCanonical; "two extensions")]
#[test_case("DELETE", "/v2/Droplets/1", Reason::PathNotCanonical; "upper case before a value")]
#[test_case("POST", "/v2/droplets/Actions", Reason::PathNotCanonical; "upper case in place of a value")]
#[test_case("GET", "/v2/droplets?a=%", Reason::MalformedRequest; "percent alone in the query")]
#[test_case("GET", "/v2/droplets?a=%4", Reason::MalformedRequest; "half an escape in the query")]
#[test_case("GET", "/v2/droplets?a=%zz", Reason::MalformedRequest; "no digits in the query")]
#[test_case("GET", "/v2/droplets?a=%4%41", Reason::MalformedRequest; "escape cut by an escape")]
#[test_case("POST", "/v2/droplets?_method=DELETE", Reason::MethodOverride)]
#[test_case("POST", "/v2/droplets?a=b&_METHOD=DELETE", Reason::MethodOverride; "upper case parameter")]
#[test_case("POST", "/v2/droplets?%5Fm%65thod=DELETE", Reason::MethodOverride; "escaped parameter")]
#[test_case("POST", "/v2/droplets?a=b;_method=DELETE", Reason::MethodOverride; "behind a semicolon")]
#[test_case("POST", "/v2/droplets?_method[]=DELETE", Reason::MethodOverride; "list parameter")]
#[test_case("POST", "/v2/droplets?_method%5B0%5D=DELETE", Reason::MethodOverride; "escaped list parameter")]
#[test_case("POST", "/v2/droplets?+_method=DELETE", Reason::MethodOverride; "behind a blank")]
#[test_case("POST", "/v2/droplets?_method", Reason::MethodOverride; "without a value")]
fn requests_with_two_readings_are_refused(method: &str, target: &str, expected: Reason) {
    let error = classified(method, target, &[]).unwrap_err();
    assert_eq!(error.reason(), expected, "{error}");
}

#[test_case("X-HTTP-Method-Override", Reason::MethodOverride)]
#[test_case("x-http-method", Reason::MethodOverride)]
#[test_case("X-Method-Override", Reason::MethodOverride)]
#[test_case("Upgrade", Reason::MethodRefused)]
#[test_case("X-Original-URL", Reason::MalformedRequest)]
#[test_case("X-Rewrite-URL", Reason::MalformedRequest)]
#[test_case("X_HTTP_Method_Override", Reason::MethodOverride; "as CGI spells it")]
#[test_case("x-http_method-override", Reason::MethodOverride; "partly as CGI spells it")]
#[test_case("X-Original-URI", Reason::MalformedRequest)]
#[test_case("x_rewrite_url", Reason::MalformedRequest; "path override as CGI spells it")]
#[test_case("Content_Length", Reason::MalformedRequest)]
#[test_case("transfer_encoding", Reason::MalformedRequest)]
fn headers_that_change_the_meaning_are_refused(header: &'static str, expected: Reason) {
    assert_eq!(classified("GET", "/v2/account", &[(header, "")]).unwrap_err().reason(), expected);
}

#[test_case("/v2/droplets?name=my_method&x_method=1"; "names that only look like an override")]
#[test_case("/v2/droplets?name=_method"; "the word as a value")]
#[test_case("/v2/droplets?a=%E2%82%AC&b=%0A"; "escapes of any byte")]
#[test_case("/v2/droplets?a[]={b}|c"; "printable characters")]
fn ordinary_queries_pass(target: &str) {
    assert!(classified("GET", target, &[]).unwrap().route.is_some());
}

#[test_case("POST", Some("application/json"), Some(false))]
#[test_case("POST", Some("application/json; charset=utf-8"), Some(false); "json with a parameter")]
#[test_case("POST", Some("text/plain;charset=UTF-8"), Some(false); "what fetch says of a text")]
#[test_case("POST", Some("application/x-www-form-urlencoded"), Some(true); "form")]
#[test_case("POST", Some("Application/X-WWW-Form-Urlencoded ; charset=utf-8"), Some(true); "form in capitals")]
#[test_case("POST", Some("application/json, application/x-www-form-urlencoded"), Some(true); "list")]
#[test_case("POST", Some("multipart/form-data; boundary=x"), None; "multipart")]
#[test_case("POST", Some(" "), Some(true); "empty")]
#[test_case("POST", None, Some(true); "none")]
#[test_case("PUT", Some("application/x-www-form-urlencoded"), Some(false); "forms override POST alone")]
#[test_case("GET", None, Some(false); "read")]
fn a_body_in_which_a_method_may_hide_is_told(
    method: &str,
    value: Option<&'static str>,
    expected: Option<bool>,
) {
    let value = value.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value)));
    let told = is_form(&method.parse().unwrap(), &value.into_iter().collect());
    assert!(told.as_ref().err().is_none_or(|error| error.reason() == Reason::MethodOverride));
    assert_eq!(told.ok(), expected);
}

#[test]
fn an_escaped_slash_may_not_hide_an_operation_with_other_scopes() {
    let target = "/v2/registry/example/repositories/team%2Frepo/tags";
    let operation = classified("GET", target, &[]).unwrap().route.unwrap().operation;
    assert_eq!(operation.name, "registry_list_repositoryTags");

    // A catalogue of its own, since the embedded one has no such pair.
    let catalogue = Catalogue::parse(
        r#"source = ""
           commit = ""
           operations = [
             { name = "name", method = "GET", path = "/r/{name}", resources = ["name"], scopes = ["r:read"] },
             { name = "secret", method = "GET", path = "/r/{name}/secret", resources = ["name"], scopes = ["r:secret"] },
           ]
           [resources]
           name = "text with slashes"
           [scopes]
           "r:read" = ""
           "r:secret" = """#,
    )
    .unwrap();
    let outcome = |target: &str| {
        let target: Uri = target.parse().unwrap();
        classify(&catalogue, &Method::GET, &target, &HeaderMap::new())
            .map(|classified| classified.route.is_some())
    };
    assert_eq!(outcome("/r/a%2Fb"), Ok(true));
    assert_eq!(outcome("/r/a%2fsecret"), Err(Error::EscapedSlash));
}

proptest! {
    #[test]
    fn any_target_is_answered(target in "/[ -~]{0,40}", method in "[A-Z]{1,7}") {
        if let Ok(uri) = target.parse::<Uri>() {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            if let Ok(classified) = classify(Catalogue::embedded(), &method, &uri, &HeaderMap::new()) {
                prop_assert_eq!(classified.path.as_str(), uri.path());
                prop_assert_eq!(classified.query, uri.query());
            }
        }
    }
}
