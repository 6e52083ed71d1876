//! What one request needs beyond its operation's own scopes, and the resources that it names. Pure.

mod resource;
#[cfg(test)]
mod tests;
mod whole;

use super::{
    Condition, Operation, Pointer, Route, Scope,
    condition::Place,
    fold,
    pointer::{Spot, TopFields},
    query,
};
use crate::few::Few;
use http::Method;
use serde_json::Value;
use std::{borrow::Cow, fmt};

use resource::NoResource;
pub(super) use resource::is_exact;
pub use resource::kind_of_word;
pub use whole::{ALL, Whole};

/// The catalogue's answer for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs<'a, 'r> {
    /// Scopes that the request needs because of its query or body, each once, with the first condition that
    /// was true.
    pub extras: Vec<Extra<'a>>,
    /// The resources that it names in its path, query and body, in that order.
    pub resources: Resources<'a, 'r>,
}

/// The resources that a request names.
pub type Resources<'a, 'r> = Few<Named<'a, 'r>>;

/// A scope that the query or body makes necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra<'a> {
    /// The scope.
    pub scope: &'a Scope,
    /// Why.
    pub condition: &'a Condition,
}

/// A resource that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a, 'r> {
    /// What it is: a kind of the catalogue's `[resources]`.
    pub kind: Cow<'a, str>,
    /// Its id, name or slug as the request has it, escapes decoded.
    pub value: Cow<'r, str>,
    /// Where it stands.
    pub place: Where<'a>,
}

impl fmt::Display for Named<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Where a resource is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where<'a> {
    /// The path's placeholder of that name.
    Path(&'a str),
    /// A place in the query or body.
    At(&'a Place),
}

/// Where the catalogue says that a request names a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place.
    pub place: Place,
    /// How the kind is told.
    pub naming: Naming,
}

/// How a named resource's kind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Every value there is of this kind.
    Kind(Box<str>),
    /// Values are URNs such as `do:droplet:123`, which say it themselves.
    Urn,
    /// The field beside it says it (`resource_type` beside `resource_id`).
    Beside(Box<str>),
}

/// The field that makes an operation one of several actions, with the values that the catalogue knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// The field, or fields; at least one must be there.
    pub place: Place,
    /// The known values; where `by_prefix`, their beginnings (`do:droplet:`).
    pub known: Vec<Box<str>>,
    /// Whether values need only begin with a known one.
    pub by_prefix: bool,
}

/// The request is one of which the catalogue does not know what it does, so it is unclassified.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownVariant {
    /// The field holds a value that the catalogue does not know, or no string.
    #[error("operation `{operation}` with {place} = `{value}` is not in the catalogue")]
    Value {
        /// The operation.
        operation: String,
        /// The field.
        place: String,
        /// What it holds, shortened.
        value: String,
    },
    /// The field is not there.
    #[error("operation `{operation}` without {place} is not in the catalogue")]
    Missing {
        /// The operation.
        operation: String,
        /// The field.
        place: String,
    },
}

/// As much of a value as a message repeats.
const MAX_SHOWN_CHARS: usize = 40;

impl<'a, 'r> Needs<'a, 'r> {
    /// What a request needs by its path, query and body. The body is none where it was not read because nothing
    /// depends on it, or where there is none.
    ///
    /// # Errors
    /// When the catalogue does not know what the request does.
    pub fn of(
        route: &Route<'a, 'r>,
        query: Option<&'r str>,
        body: Option<&'r Value>,
    ) -> Result<Self, UnknownVariant> {
        let request = Request::new(route, query, body);
        for variants in &route.operation.variants {
            request.check(variants)?;
        }
        Ok(request.needs(|_| true))
    }

    /// As [`Self::of`] for an action that the catalogue does not know: what it needs as far as that can be told.
    pub fn of_unknown_action(route: &Route<'a, 'r>, query: Option<&'r str>, body: Option<&'r Value>) -> Self {
        let request = Request::new(route, query, body);
        request.needs(|_| true)
    }

    /// What a request needs by its path and query alone, whatever its body will turn out to say.
    pub fn of_head(route: &Route<'a, 'r>, query: Option<&'r str>) -> Self {
        let request = Request::new(route, query, None);
        request.needs(|place| matches!(place, Place::Query(_)))
    }

    /// The same, for longer than the request.
    pub fn into_owned(self) -> Needs<'a, 'static> {
        let resources = self.resources.into_iter().map(|Named { kind, value, place }| Named {
            kind,
            value: Cow::Owned(value.into_owned()),
            place,
        });
        Needs { extras: self.extras, resources: resources.collect() }
    }
}

impl Operation {
    /// Whether scopes or actions of its requests depend on the body, or might for a server that takes from the
    /// body what the query says.
    pub fn has_telling_body(&self) -> bool {
        !self.conditions.is_empty()
            || !self.variants.is_empty()
            || self.targets.iter().any(|target| matches!(target.place, Place::Query(_)))
    }

    /// The query parameters by which its requests are told apart, some perhaps twice.
    pub fn query_names(&self) -> impl Iterator<Item = &str> {
        self.deciding_places().filter_map(|place| match place {
            Place::Query(name) => Some(&**name),
            Place::Body(_) => None,
        })
    }

    /// The fields of its body by which its requests are told apart, or that lead to such, some perhaps twice.
    pub fn body_names(&self) -> impl Iterator<Item = &str> {
        self.deciding_places().filter_map(|place| match place {
            Place::Query(_) => None,
            Place::Body(pointer) => pointer.first_field(),
        })
    }

    fn deciding_places(&self) -> impl Iterator<Item = &Place> {
        let conditions = self.conditions.iter().map(|condition| &condition.place);
        let variants = self.variants.iter().map(|variants| &variants.place);
        conditions.chain(variants).chain(self.targets.iter().map(|target| &target.place))
    }
}

/// The problem with a body's actions, and with its names of resources whose kind stands beside or in them, as the
/// rest of a sentence.
pub(super) fn check_names(operation: &Operation, body: &Value) -> Result<(), String> {
    operation.variants.iter().try_for_each(|variants| variants.check_spelling(body))?;
    for target in &operation.targets {
        let mut problem = None;
        resource::visit(target, body, &mut |value, word| match resource::named(target, value, word) {
            Ok(_) | Err(NoResource::Other) => {}
            Err(found) => problem = problem.or(Some(found)),
        });
        if let Some(problem) = problem {
            return Err(format!("has a value in its {} that {problem}", target.place));
        }
    }
    Ok(())
}

type Pairs<'r> = Few<(Cow<'r, str>, Cow<'r, str>)>;

fn pairs(query: Option<&str>) -> Pairs<'_> {
    query::pairs(query.unwrap_or_default()).map(|pair| (pair.name(), pair.value())).collect()
}

/// One request of a known operation, its query decoded.
struct Request<'q, 'a, 'r> {
    route: &'q Route<'a, 'r>,
    query: Pairs<'r>,
    body: Option<&'r Value>,
    /// The body's.
    fields: Option<TopFields>,
}

impl<'q, 'a, 'r> Request<'q, 'a, 'r> {
    fn new(route: &'q Route<'a, 'r>, query: Option<&'r str>, body: Option<&'r Value>) -> Self {
        Self { route, query: pairs(query), body, fields: body.map(TopFields::of) }
    }

    /// Whether the body may have something at the place.
    fn may_hold(&self, place: &Place) -> bool {
        match place {
            Place::Query(_) => false,
            Place::Body(pointer) => self.fields.is_some_and(|fields| fields.may_hold(pointer)),
        }
    }

    fn needs(&self, counts: impl Fn(&Place) -> bool) -> Needs<'a, 'r> {
        let operation = self.route.operation;
        let common = |scope: &Scope| {
            let mut sets = operation.scopes.iter();
            operation.hardened.contains(scope) || (sets.len() > 0 && sets.all(|set| set.contains(scope)))
        };
        let mut needs = Needs::default();
        let conditions = operation.conditions.iter().filter(|condition| counts(&condition.place));
        for condition in conditions.filter(|condition| self.meets(condition)) {
            for scope in &condition.requires {
                if !common(scope) && !needs.extras.iter().any(|extra| extra.scope == scope) {
                    needs.extras.push(Extra { scope, condition });
                }
            }
        }
        let in_path = self.route.parameters.iter().zip(&operation.parameters);
        needs.resources.extend(in_path.map(|((name, value), parameter)| Named {
            kind: Cow::Borrowed(parameter.resource.as_str()),
            value: value.clone(),
            place: Where::Path(name),
        }));
        needs.resources.extend(self.in_query());
        if let Some(body) = self.body {
            for target in operation.targets.iter().filter(|target| self.may_hold(&target.place)) {
                resource::visit(target, body, &mut |value, word| {
                    needs.resources.extend(resource::named(target, value, word).ok());
                });
            }
        }
        needs.resources.extend(operation.wholes.iter().filter_map(|whole| whole.named(self.body?)));
        needs
    }

    fn meets(&self, condition: &Condition) -> bool {
        match &condition.place {
            Place::Query(name) => self.values(name).any(|value| condition.test.of_text(value)),
            place @ Place::Body(pointer) => self.body.filter(|_| self.may_hold(place)).is_some_and(|body| {
                pointer.leads_to(body, &|spot| match spot {
                    Spot::Value(value) => condition.test.of(value, self.replaces()),
                    // Whatever a server makes of a body of another shape than the API's.
                    Spot::Blocked(_) => true,
                    Spot::Absent => false,
                })
            }),
        }
    }

    /// To send `null` or nothing at all in place of what is there removes it.
    fn replaces(&self) -> bool {
        let method = &self.route.operation.method;
        *method == Method::PUT || *method == Method::PATCH
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &Cow<'r, str>> {
        self.query.iter().filter(move |(given, _)| given == name).map(|(_, value)| value)
    }

    fn spots(&self, pointer: &Pointer) -> Vec<Spot<'r>> {
        self.body.map(|body| pointer.spots(body)).unwrap_or_default()
    }

    fn check(&self, variants: &Variants) -> Result<(), UnknownVariant> {
        let operation = || self.route.operation.name.clone();
        let place = || variants.place.to_string();
        let missing = || UnknownVariant::Missing { operation: operation(), place: place() };
        let unknown = |value: String| UnknownVariant::Value { operation: operation(), place: place(), value };
        let check = |text: &str| {
            if variants.knows(text) { Ok(()) } else { Err(unknown(shortened(text))) }
        };
        let mut found = 0;
        match &variants.place {
            Place::Query(name) => {
                for value in self.values(name) {
                    check(value)?;
                    found += 1;
                }
            }
            Place::Body(pointer) => {
                for spot in self.spots(pointer) {
                    match spot {
                        Spot::Value(Value::String(text)) => check(text)?,
                        Spot::Value(Value::Null) | Spot::Absent => return Err(missing()),
                        Spot::Value(other) | Spot::Blocked(other) => {
                            return Err(unknown(kind_of(other).to_owned()));
                        }
                    }
                    found += 1;
                }
            }
        }
        if found == 0 { Err(missing()) } else { Ok(()) }
    }

    /// A request for all that carry a tag is about the tag alone: what else the query says does not narrow it.
    fn in_query(&self) -> Resources<'a, 'r> {
        let mut named = Resources::new();
        if self.query.is_empty() {
            return named;
        }
        for target in &self.route.operation.targets {
            if let Place::Query(name) = &target.place {
                let values = self.values(name).filter(|value| !value.is_empty());
                named.extend(values.filter_map(|value| resource::named(target, value.clone(), None).ok()));
            }
        }
        if named.iter().any(|named| named.kind == resource::TAG) {
            named = named.into_iter().filter(|named| named.kind == resource::TAG).collect();
        }
        named
    }
}

impl Variants {
    fn knows(&self, text: &str) -> bool {
        self.known.iter().any(|known| match self.by_prefix {
            true => text.starts_with(&**known),
            false => text == &**known,
        })
    }

    /// A known action in another spelling is none that nobody knows: where a policy lets those pass, it would be a
    /// way around the scopes that the known one needs.
    fn check_spelling(&self, body: &Value) -> Result<(), String> {
        let Place::Body(pointer) = &self.place else { return Ok(()) };
        let texts = pointer.select(body).into_iter().filter_map(Value::as_str);
        for text in texts.filter(|text| !self.knows(text)) {
            let given = fold::folded(text);
            let is_meant = |known: &str| match self.by_prefix {
                true => given.starts_with(&fold::folded(known)),
                false => given == fold::folded(known),
            };
            if let Some(known) = self.known.iter().find(|known| is_meant(known)) {
                let given = fold::shown(text);
                return Err(format!("has `{given}` in its {}, another spelling of `{known}`", self.place));
            }
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
