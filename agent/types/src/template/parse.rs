//! Builds the nodes of a template from its tokens.

use super::scan::{Kind, Scanner, Token};
use super::{Command, Error, Node, Operand};

pub(super) fn template(text: &str) -> Result<Vec<Node>, Error> {
    let mut scanner = Scanner::new(text);
    let mut nodes = Vec::new();
    loop {
        let (plain, more) = scanner.plain();
        if !plain.is_empty() {
            nodes.push(Node::Text(plain.to_owned()));
        }
        if !more {
            return Ok(nodes);
        }
        if !scanner.comment()? {
            nodes.push(action(&mut scanner)?);
        }
    }
}

fn action(scanner: &mut Scanner<'_>) -> Result<Node, Error> {
    let start = scanner.position();
    let tokens = scanner.action()?;
    let tokens = match trimmed(&tokens) {
        // Go does not mind a pipe with nothing behind it.
        [rest @ .., Token { kind: Kind::Pipe, .. }] => trimmed(rest),
        tokens => tokens,
    };
    if tokens.is_empty() {
        return Err(scanner.expected("a value", "an empty action", start));
    }
    let stages = tokens.split(|token| token.kind == Kind::Pipe).enumerate();
    let pipeline = stages
        .map(|(number, stage)| command(scanner, trimmed(stage), number, start))
        .collect::<Result<_, _>>()?;
    Ok(Node::Action { source: scanner.source(start).to_owned(), pipeline })
}

fn command(
    scanner: &Scanner<'_>,
    tokens: &[Token],
    stage: usize,
    start: usize,
) -> Result<Command, Error> {
    let Some((first, arguments)) = tokens.split_first() else {
        return Err(scanner.expected("a value on both sides of |", "nothing", start));
    };
    if first.kind == Kind::Kargs {
        if let Some(second) = arguments.first().filter(|second| second.kind != Kind::Space) {
            return Err(scanner.expected("a space", second.kind.description(), second.at));
        }
        return Ok(Command::Kargs(operands(scanner, arguments)?));
    }
    if stage > 0 && !matches!(first.kind, Kind::Field(_)) {
        return Err(scanner.expected("a function behind |", "a value", first.at));
    }
    let mut operands = operands(scanner, tokens)?;
    match operands.pop() {
        Some(operand) if operands.is_empty() => Ok(Command::Value(operand)),
        _ => Err(Error::NotAFunction { action: scanner.source(start).to_owned() }),
    }
}

/// The operands of a command; white space stands between each two.
fn operands(scanner: &Scanner<'_>, tokens: &[Token]) -> Result<Vec<Operand>, Error> {
    tokens
        .split(|token| token.kind == Kind::Space)
        .filter(|tokens| !tokens.is_empty())
        .map(|tokens| operand(scanner, tokens))
        .collect()
}

fn operand(scanner: &Scanner<'_>, tokens: &[Token]) -> Result<Operand, Error> {
    let unexpected =
        |token: &Token| scanner.expected("a space", token.kind.description(), token.at);
    match tokens {
        [Token { kind: Kind::Text(text), .. }] => Ok(Operand::Text(text.clone())),
        [Token { kind: Kind::Dot, .. }] => Ok(Operand::Field(Vec::new())),
        [Token { kind: Kind::Kargs, at }, ..] => {
            Err(scanner.unsupported("kargs as an argument", *at))
        }
        [Token { kind: Kind::Field(_), .. }, ..] => {
            let names = tokens.iter().map(|token| match &token.kind {
                Kind::Field(name) => Ok(name.clone()),
                _ => Err(unexpected(token)),
            });
            names.collect::<Result<_, _>>().map(Operand::Field)
        }
        [_, second, ..] => Err(unexpected(second)),
        _ => Ok(Operand::Field(Vec::new())),
    }
}

fn trimmed(mut tokens: &[Token]) -> &[Token] {
    while let [Token { kind: Kind::Space, .. }, rest @ ..]
    | [rest @ .., Token { kind: Kind::Space, .. }] = tokens
    {
        tokens = rest;
    }
    tokens
}

impl Kind {
    const fn description(&self) -> &'static str {
        match self {
            Self::Field(_) => "a field",
            Self::Dot => "a dot",
            Self::Kargs => "kargs",
            Self::Text(_) => "a string",
            Self::Pipe => "|",
            Self::Space => "a space",
        }
    }
}
