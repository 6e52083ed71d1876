//! The OpenAPI file itself, for what the facts do not list: the fields of bodies and answers.

use anyhow::{Context, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

/// The compressed file in the source directory.
const FILE: &str = "openapi-bundled.json.xz";
/// How often one schema may stand inside itself before the walk turns back.
const MAX_NESTED: usize = 2;
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The file, with its operations by name.
pub(crate) struct OpenApi {
    document: Value,
    operations: BTreeMap<String, Value>,
}

/// A place in a body or an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    /// It can hold a string.
    pub(crate) string: bool,
    /// It can hold an integer.
    pub(crate) integer: bool,
    /// It is an object whose keys the spec does not list.
    pub(crate) map: bool,
    /// A client may send it.
    pub(crate) writable: bool,
}

/// Places by pointer, `*` standing for each element of an array and `{}` for each value of a map.
pub(crate) type Fields = BTreeMap<String, Field>;

impl OpenApi {
    /// Unpacks and reads the file of a source directory.
    pub(crate) fn load(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(&path).output();
        let output = output.context("cannot run `xz`, which unpacks the OpenAPI file")?;
        if !output.status.success() {
            let problem = String::from_utf8_lossy(&output.stderr);
            bail!("cannot unpack `{}`: {}", path.display(), problem.trim());
        }
        let document = serde_json::from_slice(&output.stdout);
        Self::new(document.with_context(|| format!("`{}` holds no JSON", path.display()))?)
    }

    pub(crate) fn new(document: Value) -> anyhow::Result<Self> {
        let mut operations = BTreeMap::new();
        for item in
            document.get("paths").and_then(Value::as_object).into_iter().flat_map(|paths| paths.values())
        {
            for operation in METHODS.iter().filter_map(|method| item.get(*method)) {
                let name = operation.get("operationId").and_then(Value::as_str);
                let name = name.context("an operation of the OpenAPI file has no operationId")?;
                operations.insert(name.to_owned(), operation.clone());
            }
        }
        Ok(Self { document, operations })
    }

    /// The fields of an operation's JSON body.
    pub(crate) fn body(&self, operation: &str) -> anyhow::Result<Fields> {
        let mut fields = Fields::new();
        if let Some(schema) = self.body_schema(operation)? {
            self.walk(schema, &mut |pointer, schema, writable| note(&mut fields, pointer, schema, writable))?;
        }
        Ok(fields)
    }

    /// The fields of an operation's successful JSON answers.
    pub(crate) fn answers(&self, operation: &str) -> anyhow::Result<Fields> {
        let mut fields = Fields::new();
        let responses = self.operation(operation)?.get("responses").and_then(Value::as_object);
        for (status, response) in responses.into_iter().flatten() {
            if !status.starts_with('2') {
                continue;
            }
            if let Some(schema) = json_schema(self.resolve(response)?) {
                self.walk(schema, &mut |pointer, schema, writable| {
                    note(&mut fields, pointer, schema, writable)
                })?;
            }
        }
        Ok(fields)
    }

    /// The fields of a body that choose one of several schemas, with the values that the spec gives them.
    pub(crate) fn choices(&self, operation: &str) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
        let mut choices: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        if let Some(schema) = self.body_schema(operation)? {
            self.walk(schema, &mut |pointer, schema, _| {
                let Some(discriminator) = schema.get("discriminator") else { return };
                let Some(name) = discriminator.get("propertyName").and_then(Value::as_str) else { return };
                let mapping = discriminator.get("mapping").and_then(Value::as_object);
                let values = mapping.into_iter().flat_map(|mapping| mapping.keys().cloned());
                choices.entry(format!("{pointer}/{name}")).or_default().extend(values);
            })?;
        }
        Ok(choices)
    }

    /// The query parameters of an operation, and whether each is a list.
    pub(crate) fn query(&self, operation: &str) -> anyhow::Result<BTreeMap<String, bool>> {
        let mut parameters = BTreeMap::new();
        let listed = self.operation(operation)?.get("parameters").and_then(Value::as_array);
        for parameter in listed.into_iter().flatten() {
            let parameter = self.resolve(parameter)?;
            let name = parameter.get("name").and_then(Value::as_str);
            let (Some("query"), Some(name)) = (parameter.get("in").and_then(Value::as_str), name) else {
                continue;
            };
            let schema = parameter.get("schema").map(|schema| self.resolve(schema)).transpose()?;
            let is_list = schema.is_some_and(|schema| schema.get("type").is_some_and(|kind| kind == "array"));
            parameters.insert(name.to_owned(), is_list);
        }
        Ok(parameters)
    }

    fn operation(&self, name: &str) -> anyhow::Result<&Value> {
        self.operations.get(name).with_context(|| format!("the OpenAPI file has no operation `{name}`"))
    }

    fn body_schema(&self, operation: &str) -> anyhow::Result<Option<&Value>> {
        let Some(body) = self.operation(operation)?.get("requestBody") else { return Ok(None) };
        Ok(json_schema(self.resolve(body)?))
    }

    /// What a reference refers to.
    fn resolve<'a>(&'a self, value: &'a Value) -> anyhow::Result<&'a Value> {
        let mut value = value;
        while let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#');
            let target = pointer.and_then(|pointer| self.document.pointer(pointer));
            value = target.with_context(|| format!("the OpenAPI file has no `{reference}`"))?;
        }
        Ok(value)
    }

    /// Calls `visit` with every place of a schema: its pointer, its schema, and whether a client may send it.
    fn walk(&self, schema: &Value, visit: &mut dyn FnMut(&str, &Value, bool)) -> anyhow::Result<()> {
        self.walk_from(schema, &Way { pointer: String::new(), writable: true, passed: Vec::new() }, visit)
    }

    fn walk_from(
        &self,
        schema: &Value,
        way: &Way,
        visit: &mut dyn FnMut(&str, &Value, bool),
    ) -> anyhow::Result<()> {
        let mut way = way.clone();
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            if way.passed.iter().filter(|passed| *passed == reference).count() >= MAX_NESTED {
                return Ok(());
            }
            way.passed.push(reference.to_owned());
        }
        let schema = self.resolve(schema)?;
        way.writable &= schema.get("readOnly").is_none_or(|read_only| read_only != &Value::Bool(true));
        visit(&way.pointer, schema, way.writable);
        for word in ["allOf", "oneOf", "anyOf"] {
            for part in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
                self.walk_from(part, &way, visit)?;
            }
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.walk_from(field, &way.down(name), visit)?;
        }
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            self.walk_from(values, &way.down("{}"), visit)?;
        }
        if let Some(items) = schema.get("items") {
            self.walk_from(items, &way.down("*"), visit)?;
        }
        Ok(())
    }
}

/// How a walk came to a schema.
#[derive(Clone)]
struct Way {
    pointer: String,
    writable: bool,
    passed: Vec<String>,
}

impl Way {
    fn down(&self, name: &str) -> Self {
        Self { pointer: format!("{}/{name}", self.pointer), ..self.clone() }
    }
}

fn json_schema(message: &Value) -> Option<&Value> {
    message.get("content")?.get("application/json")?.get("schema")
}

fn note(fields: &mut Fields, pointer: &str, schema: &Value, writable: bool) {
    let field = fields.entry(pointer.to_owned()).or_default();
    let is = |word: &str| match schema.get("type") {
        Some(Value::Array(words)) => words.iter().any(|known| known == word),
        Some(known) => known == word,
        None => false,
    };
    let has = |word: &str| schema.get(word).is_some_and(|value| value != &Value::Bool(false));
    let is_described = ["properties", "allOf", "oneOf", "anyOf"].iter().any(|word| has(word));
    field.string |= is("string");
    field.integer |= is("integer");
    field.map |= has("additionalProperties") || (is("object") && !is_described);
    field.writable |= writable;
}
