//! What was found, and how bad that is.

/// From the best to the worst: of several cases, the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Pass,
    /// Allowed, but not what the rule asks for: a SHOULD that is not met.
    Weak,
    /// Not judged, for lack of something that the finding names.
    Skip,
    Fail,
}

impl Verdict {
    pub(crate) const ALL: [Self; 4] = [Self::Pass, Self::Weak, Self::Fail, Self::Skip];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Weak => "weak",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}

/// What happened, and what that is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) happened: String,
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, happened: impl Into<String>) -> Self {
        Self { verdict, happened: happened.into() }
    }

    pub(crate) fn pass(happened: impl Into<String>) -> Self {
        Self::new(Verdict::Pass, happened)
    }

    pub(crate) fn weak(happened: impl Into<String>) -> Self {
        Self::new(Verdict::Weak, happened)
    }

    pub(crate) fn fail(happened: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, happened)
    }

    pub(crate) fn skip(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Skip, reason)
    }

    /// Of the cases of a row: the worst, with the names of those that were like it.
    pub(crate) fn worst(cases: &[(&str, Self)]) -> Self {
        let Some(verdict) = cases.iter().map(|(_, finding)| finding.verdict).max() else {
            return Self::fail("no case was tried");
        };
        let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
        for (case, finding) in cases.iter().filter(|(_, finding)| finding.verdict == verdict) {
            match told.iter_mut().find(|(happened, _)| *happened == finding.happened) {
                Some((_, names)) => names.push(case),
                None => told.push((&finding.happened, vec![case])),
            }
        }
        let named = told.into_iter().map(|(happened, names)| match cases {
            [_] => happened.to_owned(),
            _ if names.len() == cases.len() => happened.to_owned(),
            _ => format!("{}: {happened}", names.join(", ")),
        });
        Self::new(verdict, named.collect::<Vec<_>>().join("; "))
    }

    /// A rule that only recommends cannot be failed.
    pub(crate) fn by(self, level: Level) -> Self {
        match (level, self.verdict) {
            (Level::Should, Verdict::Fail) => Self { verdict: Verdict::Weak, ..self },
            _ => self,
        }
    }
}

/// How much a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Must,
    Should,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_is_the_finding_and_names_those_like_it() {
        let cases = [
            ("a", Finding::pass("closed with 1002")),
            ("b", Finding::fail("echoed")),
            ("c", Finding::weak("closed with 1000")),
            ("d", Finding::fail("echoed")),
            ("e", Finding::fail("silent")),
        ];
        assert_eq!(Finding::worst(&cases), Finding::fail("b, d: echoed; e: silent"));
        assert_eq!(Finding::worst(&cases[..1]), Finding::pass("closed with 1002"));
        let same = [("a", Finding::pass("400")), ("b", Finding::pass("400"))];
        assert_eq!(Finding::worst(&same), Finding::pass("400"));
        assert_eq!(Finding::worst(&[]).verdict, Verdict::Fail);
    }

    #[test]
    fn a_recommendation_is_not_failed() {
        let finding = || Finding::fail("echoed");
        assert_eq!(finding().by(Level::Should), Finding::weak("echoed"));
        assert_eq!(finding().by(Level::Must), finding());
        assert_eq!(Finding::skip("no pid").by(Level::Should), Finding::skip("no pid"));
    }
}
