//! What a condition may speak of, besides the body.

use super::value::{Fault, List, Text, Value};
use crate::{
    classify::schema::{Kinds, Shape},
    decide::Request,
};
use http::HeaderName;
use std::{rc::Rc, sync::LazyLock, time::SystemTime};
use time::OffsetDateTime;

/// The headers that a condition may read: none that holds a credential or that a hop on the way sets.
const HEADERS: [&str; 5] = ["accept", "accept_language", "content_type", "user_agent", "x_request_id"];

/// A value of a request that has a name of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Variable {
    Body,
    Method,
    Path,
    Operation,
    Query(Box<str>),
    Header(HeaderName),
    Resource(Box<str>),
    Pid,
    Uid,
    Executable,
    Cgroup,
    Workload,
    TokenType,
    Hour,
    Minute,
    Weekday,
    Date,
    Unix,
}

/// A name that stands before others and is no value by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Request,
    Query,
    Headers,
    Resource,
    Process,
    Token,
    Now,
}

/// The first names of all, for suggestions.
pub(super) const ROOTS: [&str; 6] = ["now", "process", "request", "resource", "token", "workload"];

impl Space {
    pub(super) fn of_root(name: &str) -> Option<Self> {
        Some(match name {
            "request" => Self::Request,
            "resource" => Self::Resource,
            "process" => Self::Process,
            "token" => Self::Token,
            "now" => Self::Now,
            _ => return None,
        })
    }

    /// The space within this one of that name.
    pub(super) fn space(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Request, "query") => Some(Self::Query),
            (Self::Request, "headers") => Some(Self::Headers),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Query => "request.query",
            Self::Headers => "request.headers",
            Self::Resource => "resource",
            Self::Process => "process",
            Self::Token => "token",
            Self::Now => "now",
        }
    }

    /// The names that may stand in it, where they are always the same.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Request => &["body", "headers", "method", "operation", "path", "query"],
            Self::Query | Self::Resource => &[],
            Self::Headers => &HEADERS,
            Self::Process => &["cgroup", "executable", "pid", "uid"],
            Self::Token => &["type"],
            Self::Now => &["date", "hour", "minute", "unix", "weekday"],
        }
    }

    /// The value of that name in it.
    pub(super) fn variable(self, name: &str, is_resource: impl FnOnce(&str) -> bool) -> Option<Variable> {
        Some(match (self, name) {
            (Self::Request, "body") => Variable::Body,
            (Self::Request, "method") => Variable::Method,
            (Self::Request, "path") => Variable::Path,
            (Self::Request, "operation") => Variable::Operation,
            (Self::Query, _) => Variable::Query(name.into()),
            (Self::Headers, _) if HEADERS.contains(&name) => {
                Variable::Header(HeaderName::from_bytes(name.replace('_', "-").as_bytes()).ok()?)
            }
            (Self::Resource, _) if is_resource(name) => Variable::Resource(name.into()),
            (Self::Process, "pid") => Variable::Pid,
            (Self::Process, "uid") => Variable::Uid,
            (Self::Process, "executable") => Variable::Executable,
            (Self::Process, "cgroup") => Variable::Cgroup,
            (Self::Token, "type") => Variable::TokenType,
            (Self::Now, "hour") => Variable::Hour,
            (Self::Now, "minute") => Variable::Minute,
            (Self::Now, "weekday") => Variable::Weekday,
            (Self::Now, "date") => Variable::Date,
            (Self::Now, "unix") => Variable::Unix,
            _ => return None,
        })
    }
}

impl Variable {
    /// What it may be. A body's shape depends on the operation.
    pub(super) fn shape(&self) -> &'static Shape {
        static STRING: Shape = Shape::of(Kinds::STRING);
        static INT: Shape = Shape::of(Kinds::INT);
        static TEXTS: LazyLock<Shape> = LazyLock::new(|| Shape {
            items: Some(Box::new(Shape::of(Kinds::STRING))),
            ..Shape::of(Kinds::LIST)
        });
        match self {
            Self::Body => Shape::any(),
            Self::Resource(_) => &TEXTS,
            Self::Pid | Self::Uid | Self::Hour | Self::Minute | Self::Weekday | Self::Unix => &INT,
            Self::Method
            | Self::Path
            | Self::Operation
            | Self::Query(_)
            | Self::Header(_)
            | Self::Executable
            | Self::Cgroup
            | Self::Workload
            | Self::TokenType
            | Self::Date => &STRING,
        }
    }

    /// As it is written.
    pub(super) fn name(&self) -> String {
        let fixed = match self {
            Self::Query(name) => return format!("request.query.{name}"),
            Self::Header(name) => return format!("request.headers.{}", name.as_str().replace('-', "_")),
            Self::Resource(kind) => return format!("resource.{kind}"),
            Self::Body => "request.body",
            Self::Method => "request.method",
            Self::Path => "request.path",
            Self::Operation => "request.operation",
            Self::Pid => "process.pid",
            Self::Uid => "process.uid",
            Self::Executable => "process.executable",
            Self::Cgroup => "process.cgroup",
            Self::Workload => "workload",
            Self::TokenType => "token.type",
            Self::Hour => "now.hour",
            Self::Minute => "now.minute",
            Self::Weekday => "now.weekday",
            Self::Date => "now.date",
            Self::Unix => "now.unix",
        };
        fixed.to_owned()
    }

    /// Its value in a request; none where the request has none.
    pub(super) fn value<'a>(&self, request: &'a Request<'a>) -> Result<Option<Value<'a>>, Fault> {
        let caller = &request.caller;
        let text = |text: &'a str| Some(Value::Text(Text::Borrowed(text)));
        Ok(match self {
            Self::Body => request.body.map(Value::of_json),
            Self::Method => text(request.method.as_str()),
            Self::Path => text(request.path),
            Self::Operation => request.operation.and_then(|operation| text(&operation.name)),
            Self::Query(name) => parameter(request.query.unwrap_or_default(), name)?,
            Self::Header(name) => header(request, name)?,
            Self::Resource(kind) => {
                let named = request.needs.resources.iter().filter(|named| *named.kind == **kind);
                let values = named.map(|named| Value::Text(Text::Borrowed(&named.value)));
                Some(Value::List(List::Made(values.collect::<Vec<_>>().into())))
            }
            Self::Pid => caller.pid.map(|pid| Value::Int(pid.into())),
            Self::Uid => caller.uid.map(|uid| Value::Int(uid.into())),
            Self::Executable => caller.executable.and_then(text),
            Self::Cgroup => caller.cgroup.and_then(text),
            Self::Workload => text(caller.workload),
            Self::TokenType => text(caller.token_type),
            Self::Hour => Some(Value::Int(moment(request.now)?.hour().into())),
            Self::Minute => Some(Value::Int(moment(request.now)?.minute().into())),
            Self::Weekday => Some(Value::Int(moment(request.now)?.weekday().number_from_monday().into())),
            Self::Unix => Some(Value::Int(moment(request.now)?.unix_timestamp())),
            Self::Date => Some(Value::made_text(&date(moment(request.now)?))),
        })
    }
}

/// The moment of a request, in UTC.
fn moment(now: SystemTime) -> Result<OffsetDateTime, Fault> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs());
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.ok_or_else(|| Fault::because("the clock stands outside the years that have a date"))
}

fn date(moment: OffsetDateTime) -> String {
    format!("{:04}-{:02}-{:02}", moment.year(), u8::from(moment.month()), moment.day())
}

/// The decoded value of a parameter. A query that servers read differently has no answer.
fn parameter<'a>(query: &str, wanted: &str) -> Result<Option<Value<'a>>, Fault> {
    let ambiguous =
        || Fault::because(format!("some servers read another `request.query.{wanted}` than others"));
    let mut found = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = decode(name).ok_or_else(ambiguous)?;
        if *decoded == *wanted {
            if found.is_some() {
                return Err(Fault::because(format!("`request.query.{wanted}` is given twice")));
            }
            found = Some(decode(value).ok_or_else(ambiguous)?);
        } else if decoded.split(['[', ';', '\0']).any(|part| part.trim() == wanted) {
            // Some servers make a list of `name[]`, others cut at `;`.
            return Err(ambiguous());
        }
        if value.split(';').skip(1).any(|part| part.split('=').next() == Some(wanted)) {
            return Err(ambiguous());
        }
    }
    Ok(found.map(|value| Value::made_text(&value)))
}

/// Decodes escapes, and `+` as the blank that it is in a query; none where the result is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'));
                u8::from_str_radix(digits?, 16).ok()?
            }
            b'+' => b' ',
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn header<'a>(request: &Request<'a>, name: &HeaderName) -> Result<Option<Value<'a>>, Fault> {
    let mut values = request.headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::because(format!("the header `{name}` is given twice")));
    }
    let text = value.to_str().map_err(|_| Fault::because(format!("the header `{name}` is no plain text")))?;
    Ok(Some(Value::Text(Text::Borrowed(text))))
}

impl<'a> Value<'a> {
    fn made_text(text: &str) -> Self {
        Value::Text(Text::Made(Rc::from(text)))
    }
}
