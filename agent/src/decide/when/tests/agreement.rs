//! The same conditions over the same bodies by the crate's own interpreter, which has to agree.

use super::*;
use cel::{Context, Env, Value as Cel, parser::PrattParser};
use proptest::prelude::*;
use std::{collections::HashMap, sync::LazyLock};

/// The crate's value of a JSON value, with our reading of numbers.
fn cel_value(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(value) => Cel::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Cel::Int(number),
            (None, Some(number)) => Cel::UInt(number),
            (None, None) => Cel::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(elements) => elements.iter().map(cel_value).collect::<Vec<_>>().into(),
        Json::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), cel_value(value)))
            .collect::<HashMap<_, _>>()
            .into(),
    }
}

fn by_the_crate(text: &str, body: &Json) -> Option<bool> {
    let tree = PrattParser::new().parse(text).unwrap();
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("request", HashMap::from([("body", cel_value(body))]));
    match Cel::resolve(&tree, &context) {
        Ok(Cel::Bool(truth)) => Some(truth),
        _ => None,
    }
}

fn by_us(when: &When, body: &Json) -> Option<bool> {
    match Asked::with_body(body.clone()).answer(when).as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Fields of `droplets_create`: strings, an int or string, a bool, lists, and one with fields.
const FIELDS: [&str; 9] =
    ["name", "size", "user_data", "image", "backups", "tags", "names", "ssh_keys", "volumes"];

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        (-3_i64..4).prop_map(|number| json!(number)),
        prop_oneof![Just(0.0), Just(1.0), Just(-1.5), Just(2.5)].prop_map(|number| json!(number)),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
    ]
}

fn scalar() -> impl Strategy<Value = Json> {
    let text = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("é"), Just(""), Just("1")];
    prop_oneof![
        3 => text.prop_map(|text| json!(text)),
        2 => number(),
        1 => any::<bool>().prop_map(|truth| json!(truth)),
        1 => Just(Json::Null),
    ]
}

fn body() -> impl Strategy<Value = Json> {
    let list = || proptest::collection::vec(scalar(), 0..4).prop_map(Json::from);
    let policy = || {
        proptest::collection::hash_map(prop_oneof![Just("hour"), Just("plan")], scalar(), 0..3)
            .prop_map(|fields| json!(fields))
    };
    // No maps: `in` and macros take lists alone here, and the keys of maps as well in CEL.
    let value = prop_oneof![3 => scalar(), 2 => list()];
    let names = proptest::sample::select(&FIELDS[..]);
    let fields = proptest::collection::hash_map(names, value, 0..9);
    (fields, proptest::option::of(policy())).prop_map(|(fields, policy)| {
        let mut body = json!(fields);
        if let Some(policy) = policy {
            body["backup_policy"] = policy;
        }
        body
    })
}

/// Expressions whose values may be of any kind.
fn expression() -> impl Strategy<Value = String> {
    let literal = proptest::sample::select(
        &[
            "1",
            "0",
            "-2",
            "2u",
            "1.5",
            "'a'",
            "''",
            "'ab'",
            "true",
            "false",
            "null",
            "[]",
            "['a', 'b']",
            "[1, 2.5]",
        ][..],
    );
    let field = proptest::sample::select(&FIELDS[..]).prop_map(|name| format!("request.body.{name}"));
    let plan = proptest::sample::select(&["plan", "hour"][..])
        .prop_map(|name| format!("request.body.backup_policy.{name}"));
    let leaf =
        prop_oneof![3 => literal.prop_map(str::to_owned), 4 => field, 1 => plan, 1 => Just("e".to_owned())];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators =
            ["==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "/", "%", "in", "&&", "||", "=="];
        let functions = ["startsWith", "endsWith", "contains"];
        let macros = ["all", "exists", "exists_one", "filter", "map"];
        let one = inner.clone();
        prop_oneof![
            6 => (one.clone(), proptest::sample::select(operators.to_vec()), inner.clone())
                .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
            2 => one.clone().prop_map(|operand| format!("(!{operand})")),
            1 => one.clone().prop_map(|operand| format!("(-({operand}))")),
            2 => (one.clone(), proptest::sample::select(functions.to_vec()), inner.clone())
                .prop_map(|(text, function, part)| format!("({text}).{function}({part})")),
            1 => one.clone().prop_map(|operand| format!("({operand}).size()")),
            1 => one.clone().prop_map(|operand| format!("int({operand})")),
            1 => one.clone().prop_map(|operand| format!("string(int({operand}))")),
            1 => (one.clone(), inner.clone()).prop_map(|(list, index)| format!("({list})[{index}]")),
            1 => (one.clone(), inner.clone(), inner.clone())
                .prop_map(|(test, yes, no)| format!("({test} ? {yes} : {no})")),
            3 => (one, proptest::sample::select(macros.to_vec()), inner)
                .prop_map(|(list, name, test)| format!("({list}).{name}(e, {test})")),
            1 => proptest::sample::select(&FIELDS[..]).prop_map(|name| format!("has(request.body.{name})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn the_crate_agrees(text in expression(), bodies in proptest::collection::vec(body(), 6)) {
        let Ok(when) = compile(&text, "droplets_create") else { return Err(TestCaseError::reject("no condition")) };
        for body in bodies {
            prop_assert_eq!(by_us(&when, &body), by_the_crate(&text, &body), "{} of {}", text, body);
        }
    }
}
