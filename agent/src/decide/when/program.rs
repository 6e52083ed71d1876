//! A condition after it was checked: what is evaluated.

use super::variables::Variable;
use std::fmt;

/// One step of a condition.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Literal(Literal),
    Variable(Variable),
    /// The element of a macro, by how many macros stand around its own.
    Local {
        slot: usize,
        name: Box<str>,
    },
    Field {
        of: Box<Node>,
        name: Box<str>,
    },
    /// `has(of.name)`.
    Has {
        of: Box<Node>,
        name: Box<str>,
    },
    /// `has()` of what has a name of its own.
    Given(Variable),
    Element {
        of: Box<Node>,
        index: Box<Node>,
    },
    List(Box<[Node]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// `&&`, which stops at false, or `||`, which stops at true.
    Logic {
        stop: bool,
        sides: Box<(Node, Node)>,
    },
    Choice(Box<(Node, Node, Node)>),
    Equal {
        negated: bool,
        sides: Box<(Node, Node)>,
    },
    Order {
        operator: Order,
        sides: Box<(Node, Node)>,
    },
    Arithmetic {
        operator: Arithmetic,
        sides: Box<(Node, Node)>,
    },
    In(Box<(Node, Node)>),
    Call {
        function: Function,
        operands: Box<[Node]>,
    },
    Loop(Box<Loop>),
}

/// A constant.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
}

/// `<`, `<=`, `>`, `>=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// `+`, `-`, `*`, `/`, `%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    LowerAscii,
    Int,
    String,
}

impl Function {
    pub(super) const ALL: [Self; 7] = [
        Self::Size,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::LowerAscii,
        Self::Int,
        Self::String,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Contains => "contains",
            Self::LowerAscii => "lowerAscii",
            Self::Int => "int",
            Self::String => "string",
        }
    }
}

/// A macro over the elements of a list.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    pub(super) over: Node,
    pub(super) how: How,
}

/// What a macro makes of the elements.
#[derive(Clone, Debug)]
pub(super) enum How {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    /// `map` and `filter`: which elements, and what becomes of each.
    Collect {
        filter: Option<Node>,
        each: Node,
    },
}

impl Node {
    /// How a message names what it stands for; none where it is the result of a computation.
    pub(super) fn place(&self) -> Option<String> {
        match self {
            Self::Variable(variable) => Some(variable.name()),
            Self::Local { name, .. } => Some(name.to_string()),
            Self::Field { of, name } => Some(format!("{}.{name}", of.place()?)),
            Self::Element { of, index } => {
                let of = of.place()?;
                let index =
                    if let Self::Literal(index) = &**index { index.to_string() } else { "…".to_owned() };
                Some(format!("{of}[{index}]"))
            }
            Self::Literal(_)
            | Self::Has { .. }
            | Self::Given(_)
            | Self::List(_)
            | Self::Not(_)
            | Self::Negate(_)
            | Self::Logic { .. }
            | Self::Choice(_)
            | Self::Equal { .. }
            | Self::Order { .. }
            | Self::Arithmetic { .. }
            | Self::In(_)
            | Self::Call { .. }
            | Self::Loop(_) => None,
        }
    }

    /// How a message names its value.
    pub(super) fn subject(&self) -> String {
        if let Some(place) = self.place() {
            return format!("`{place}`");
        }
        if let Self::Literal(literal) = self {
            return format!("`{literal}`");
        }
        if let Self::Call { function, .. } = self {
            return format!("what `{}` gives", function.name());
        }
        if matches!(self, Self::List(_)) { "the list".to_owned() } else { "the operand".to_owned() }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}
