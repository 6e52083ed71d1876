//! From text to the parser's tree, within limits that keep the parser off deep stacks and long waits.

use super::CompileError;
use cel::{
    IdedExpr, ParseError,
    parser::{
        PrattParser,
        pratt_parser::{Lexer, TokenKind},
    },
};

/// The longest text of a condition.
const MAX_BYTES: usize = 4096;
/// More than a tree of [`super::check::MAX_NODES`] is ever written with.
const MAX_TOKENS: usize = 1024;
/// The parser takes a level of the stack for each open bracket and each `?`.
const MAX_BRACKETS: usize = 24;
const MAX_CHOICES: usize = 24;

const OPENING: [TokenKind; 3] = [TokenKind::TokLeftParen, TokenKind::TokLeftBracket, TokenKind::TokLeftBrace];
const CLOSING: [TokenKind; 3] =
    [TokenKind::TokRightParen, TokenKind::TokRightBracket, TokenKind::TokRightBrace];

/// Parses a condition; the standard macros are expanded.
pub(super) fn parse(text: &str) -> Result<IdedExpr, CompileError> {
    if text.len() > MAX_BYTES {
        return Err(CompileError::new(format!("the condition is longer than {MAX_BYTES} bytes")));
    }
    check_tokens(text)?;
    let parsed = PrattParser::new().parse(text);
    parsed.map_err(|errors| match errors.errors.into_iter().find(|error| error.pos.0 > 0) {
        Some(error) => told(text, &error),
        None => CompileError::new("the condition cannot be parsed"),
    })
}

/// Reads the tokens as the parser will, so that nothing it cannot cope with reaches it.
fn check_tokens(text: &str) -> Result<(), CompileError> {
    let mut lexer = Lexer::new(text);
    let (mut open, mut choices) = (0_usize, 0_usize);
    for _ in 0..MAX_TOKENS {
        let token = lexer.lex();
        let kind = token.kind;
        if kind == TokenKind::TokEnd {
            return Ok(());
        }
        if kind == TokenKind::TokError {
            let message = lexer.get_error().map_or("unreadable", |error| error.message.as_str());
            return Err(CompileError::at(text, token.start, reworded(message)));
        }
        open += usize::from(OPENING.contains(&kind));
        open = open.saturating_sub(usize::from(CLOSING.contains(&kind)));
        choices += usize::from(kind == TokenKind::TokQuestion);
        if open > MAX_BRACKETS {
            let message = format!("more than {MAX_BRACKETS} brackets are open");
            return Err(CompileError::at(text, token.start, message));
        }
        if choices > MAX_CHOICES {
            return Err(CompileError::at(text, token.start, format!("more than {MAX_CHOICES} `?`")));
        }
    }
    Err(CompileError::new("the condition is too long"))
}

fn told(text: &str, error: &ParseError) -> CompileError {
    let (line, column) = (usize::try_from(error.pos.0), usize::try_from(error.pos.1));
    let lines = text.split_inclusive('\n').take(line.unwrap_or(1).saturating_sub(1));
    let offset = lines.map(str::len).sum::<usize>() + column.unwrap_or(1).saturating_sub(1);
    CompileError::at(text, offset, reworded(&error.msg))
}

/// The parser's message in the form of ours: `Syntax error: mismatched input 'b' expecting <EOF>`.
fn reworded(message: &str) -> String {
    match message {
        "invalid argument to has() macro" => "`has` takes a field, as in `has(request.body.size)`".to_owned(),
        "argument must be a simple name" => {
            "the first argument of a macro is a name of your choice, as in `list.all(x, x == 1)`".to_owned()
        }
        _ => message
            .strip_prefix("Syntax error: ")
            .unwrap_or(message)
            .replace("'<EOF>'", "end")
            .replace("<EOF>", "end")
            .replace("mismatched input", "unexpected")
            .replace(" expecting ", ", expected ")
            .replace('\'', "`"),
    }
}
