//! What a row is: an attack, and the rule that speaks of it.

use super::{
    arena::Arena,
    exchange::Exchange,
    finding::{Finding, Level},
    request::Request,
};
use std::io;

/// Who says what has to happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) level: Level,
    /// A section of an RFC, or the advisory of a server that this class of attack hit.
    pub(crate) source: &'static str,
    /// What is recommended beside it.
    pub(crate) also: Option<&'static str>,
}

impl Rule {
    pub(crate) fn text(&self) -> String {
        let level = match self.level {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
        };
        let also = self.also.map(|also| format!("; SHOULD, {also}"));
        format!("{level}, {}{}", self.source, also.unwrap_or_default())
    }
}

pub(crate) const fn must(source: &'static str) -> Rule {
    Rule { level: Level::Must, source, also: None }
}

pub(crate) const fn should(source: &'static str) -> Rule {
    Rule { level: Level::Should, source, also: None }
}

pub(crate) enum Attack {
    /// Requests, each on a connection of its own.
    Requests(Vec<Request>),
    /// Bytes behind an opening handshake, each on a connection of its own.
    Exchanges(Vec<Exchange>),
    /// What is no list of bytes.
    Run(fn(&Arena<'_>) -> io::Result<Finding>),
}

pub(crate) struct Row {
    /// The group and the name.
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    pub(crate) expected: &'static str,
    pub(crate) attack: Attack,
    /// Whether what it costs the server is told.
    pub(crate) has_cost: bool,
    /// Whether more memory than may be is a failure.
    pub(crate) is_about_memory: bool,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        rule: Rule,
        expected: &'static str,
        attack: Attack,
    ) -> Self {
        Self { name, rule, expected, attack, has_cost: false, is_about_memory: false }
    }

    pub(crate) fn with_cost(self) -> Self {
        Self { has_cost: true, ..self }
    }

    pub(crate) fn bounded_in_memory(self) -> Self {
        Self { has_cost: true, is_about_memory: true, ..self }
    }

    /// Whether `--row` asks for it: by its name, or by that of its group.
    pub(crate) fn is_called(&self, wanted: &str) -> bool {
        self.name == wanted || self.name.split('/').next() == Some(wanted)
    }

    pub(crate) fn run(&self, arena: &Arena<'_>) -> io::Result<Finding> {
        let finding = match &self.attack {
            Attack::Requests(requests) => {
                worst(requests.iter().map(|case| (case.name.as_str(), case.run(arena))))
            }
            Attack::Exchanges(exchanges) => {
                worst(exchanges.iter().map(|case| (case.name.as_str(), case.run(arena))))
            }
            Attack::Run(run) => run(arena),
        };
        Ok(finding?.by(self.rule.level))
    }
}

fn worst<'a>(cases: impl Iterator<Item = (&'a str, io::Result<Finding>)>) -> io::Result<Finding> {
    let cases: io::Result<Vec<_>> = cases.map(|(name, finding)| Ok((name, finding?))).collect();
    Ok(Finding::worst(&cases?))
}
