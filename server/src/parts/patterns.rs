//! Patterns of topic names, as in NATS: a trie of their tokens.
//!
//! Dots separate tokens, and between two dots is an empty one. As a whole token of a pattern, `*`
//! stands for exactly one token, and `>`, which has to be the last, for one or more. All else is
//! literal: a token such as `a*`, and every token of a name.

use slab::Slab;
use std::collections::HashMap;

const ANY: &str = "*";
const REST: &str = ">";

/// Whether it is not empty, and has `>` as its last token or not at all.
pub(crate) fn is_valid(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.rsplit('.').skip(1).all(|token| token != REST)
}

/// Whether one pattern matches a name. One that is not valid matches none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut tokens = name.split('.');
    is_valid(pattern)
        && pattern.split('.').all(|expected| match expected {
            REST => tokens.by_ref().count() > 0,
            ANY => tokens.next().is_some(),
            literal => tokens.next() == Some(literal),
        })
        && tokens.next().is_none()
}

/// Valid patterns with a value each, to find those that match a name.
///
/// A lookup visits a node at most once, since one path leads to it: in the worst case the whole
/// trie, which has at most a node for each token of each pattern. At depth `d` it visits at most
/// `2^d`, as it leaves a node by the name's token and by `*`; without `*` in the patterns it is one
/// visit a token, however many patterns there are.
#[derive(Debug)]
pub(crate) struct Patterns<T> {
    nodes: Slab<Node<T>>,
}

/// The patterns that begin with the same tokens. Only the root may be without any.
#[derive(Debug)]
struct Node<T> {
    parent: usize,
    literals: HashMap<Box<str>, usize>,
    any: Option<usize>,
    /// Of the pattern that ends here.
    value: Option<T>,
    /// Of the pattern that has only `>` after this.
    rest: Option<T>,
}

const ROOT: usize = 0;

impl<T: Copy> Patterns<T> {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        assert_eq!(nodes.insert(Node::new(ROOT)), ROOT);
        Self { nodes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes[ROOT].is_empty()
    }

    /// Gives a pattern a value and returns the one it had. One that is not valid is not kept.
    pub(crate) fn insert(&mut self, pattern: &str, value: T) -> Option<T> {
        if !is_valid(pattern) {
            return None;
        }
        let mut key = ROOT;
        for step in steps(pattern) {
            key = self.nodes[key].child(step).unwrap_or_else(|| {
                let child = self.nodes.insert(Node::new(key));
                self.nodes[key].link(step, child);
                child
            });
        }
        self.nodes[key].value_of(pattern).replace(value)
    }

    /// Removes a pattern, and the nodes that no other needs; returns its value.
    pub(crate) fn remove(&mut self, pattern: &str) -> Option<T> {
        if !is_valid(pattern) {
            return None;
        }
        let mut key = ROOT;
        for step in steps(pattern) {
            key = self.nodes[key].child(step)?;
        }
        let removed = self.nodes[key].value_of(pattern).take()?;
        for step in steps(pattern).rev() {
            if !self.nodes[key].is_empty() {
                break;
            }
            key = self.nodes.remove(key).parent;
            self.nodes[key].unlink(step);
        }
        Some(removed)
    }

    /// Appends the values of all patterns that match, in no order, and allocates nothing else.
    pub(crate) fn matches(&self, name: &str, found: &mut Vec<T>) {
        self.walk(ROOT, Some(name), found);
    }

    /// Goes on at a node with the tokens that are left. It calls itself only for a `*`, which takes
    /// a token: at most 257 calls deep for a name of 256 bytes, and no deeper than a pattern has `*`.
    fn walk(&self, key: usize, mut left: Option<&str>, found: &mut Vec<T>) {
        let mut node = &self.nodes[key];
        while let Some(text) = left {
            // Tokens are short: this beats the search that `str::split` has for long texts.
            let dot = text.bytes().position(|byte| byte == b'.');
            let token = &text[..dot.unwrap_or(text.len())];
            left = dot.map(|dot| &text[dot + 1..]);
            found.extend(node.rest);
            if let Some(any) = node.any {
                self.walk(any, left, found);
            }
            let Some(literal) = node.literals.get(token) else { return };
            node = &self.nodes[*literal];
        }
        found.extend(node.value);
    }
}

impl<T> Node<T> {
    fn new(parent: usize) -> Self {
        Self { parent, literals: HashMap::new(), any: None, value: None, rest: None }
    }

    fn is_empty(&self) -> bool {
        let has_value = self.value.is_some() || self.rest.is_some();
        self.literals.is_empty() && self.any.is_none() && !has_value
    }

    fn child(&self, step: &str) -> Option<usize> {
        if step == ANY { self.any } else { self.literals.get(step).copied() }
    }

    fn link(&mut self, step: &str, child: usize) {
        if step == ANY {
            self.any = Some(child);
        } else {
            self.literals.insert(step.into(), child);
        }
    }

    fn unlink(&mut self, step: &str) {
        if step == ANY {
            self.any = None;
        } else {
            self.literals.remove(step);
        }
    }

    /// Where the value is of a pattern whose steps lead here.
    fn value_of(&mut self, pattern: &str) -> &mut Option<T> {
        let has_rest = pattern.rsplit('.').next() == Some(REST);
        if has_rest { &mut self.rest } else { &mut self.value }
    }
}

/// The tokens of a valid pattern that lead from node to node: all but a `>`.
fn steps(pattern: &str) -> impl DoubleEndedIterator<Item = &str> {
    pattern.split('.').filter(|token| *token != REST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, sample::Index};
    use std::collections::{BTreeMap, BTreeSet};

    fn found(patterns: &Patterns<usize>, name: &str) -> Vec<usize> {
        let mut found = Vec::new();
        patterns.matches(name, &mut found);
        found.sort_unstable();
        found
    }

    #[test]
    fn a_star_is_one_token_and_an_angle_one_or_more() {
        for (pattern, names, others) in [
            ("a.b", &["a.b"][..], &["a", "a.c", "a.b.c", "a.b.", ".a.b", "A.b", ""][..]),
            ("*", &["a", "*", ">", ""], &["a.b", "."]),
            ("*.b", &["a.b", ".b", "*.b"], &["b", "a.c", "a.a.b", "a.b.b"]),
            ("a.*", &["a.b", "a.", "a.>"], &["a", "a.b.c", "b.a"]),
            ("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.b.c", "a.b.d"]),
            (">", &["a", "a.b.c", ".", ""], &[]),
            ("a.>", &["a.b", "a.b.c", "a.", "a.."], &["a", "b.a", "ab.c"]),
            ("*.>", &["a.b", "a.b.c", "."], &["a", ""]),
            ("a*.>b", &["a*.>b"], &["aa.>b", "a*.bb", "a*"]),
            ("a..b", &["a..b"], &["a.b", "a.x.b"]),
            (".", &["."], &["", "..", "a."]),
            ("é.*", &["é.ü"], &["e.ü"]),
        ] {
            let mut patterns = Patterns::new();
            assert_eq!(patterns.insert(pattern, 7), None);
            let both = |name| (matches(pattern, name), found(&patterns, name).len());
            for name in names {
                assert_eq!(both(name), (true, 1), "{pattern} {name}");
            }
            for name in others {
                assert_eq!(both(name), (false, 0), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_pattern_is_valid_unless_it_is_empty_or_goes_on_after_an_angle() {
        for pattern in ["*", ">", "*.*", "a.*", "*.a", "a.>", "*.>", "..*", ".>"] {
            assert!(is_valid(pattern), "{pattern}");
        }
        for literal in ["a", "a*", "**", ">>", "a.>b", ".", "a..b", "a."] {
            assert!(is_valid(literal), "{literal}");
        }
        for invalid in ["", ">.a", "a.>.b", ">.>", ">.", "*.>.*"] {
            assert!(!is_valid(invalid), "{invalid}");
            assert!(!matches(invalid, invalid), "{invalid}");
        }
    }

    #[test]
    fn every_mixture_of_stars_and_literals_is_found_once() {
        let mut patterns = Patterns::new();
        for mixture in 0..1usize << 10 {
            let token = |bit: usize| if mixture >> bit & 1 == 0 { ANY } else { "a" };
            patterns.insert(&Vec::from_iter((0..10).map(token)).join("."), mixture);
        }
        assert_eq!(found(&patterns, "a.a.a.a.a.a.a.a.a.a"), Vec::from_iter(0..1 << 10));
        assert_eq!(found(&patterns, "b.b.b.b.b.b.b.b.b.b"), [0]);
        assert_eq!(found(&patterns, "a.a.a.a.a.a.a.a.a"), []);
    }

    #[test]
    fn a_name_of_256_tokens_is_matched_by_as_many_stars() {
        let mut patterns = Patterns::new();
        for tokens in 1..=300 {
            patterns.insert(&[ANY].repeat(tokens).join("."), tokens);
            patterns.insert(&[&[ANY].repeat(tokens)[..], &[REST]].concat().join("."), 0);
        }
        let expected: Vec<_> = std::iter::repeat_n(0, 255).chain([256]).collect();
        assert_eq!(found(&patterns, &".".repeat(255)), expected);
    }

    /// Names and patterns, also such as are not valid.
    fn text() -> impl Strategy<Value = String> {
        let token = prop::sample::select(&["", "a", "b", "a*", ANY, ANY, REST]);
        prop::collection::vec(token, 1..5).prop_map(|tokens| tokens.join("."))
    }

    /// How many nodes it takes: the root, and one for each beginning.
    fn nodes<'a>(patterns: impl Iterator<Item = &'a String>) -> usize {
        let beginnings = |pattern: &'a String| {
            let steps = Vec::from_iter(steps(pattern));
            (1..=steps.len()).map(move |length| steps[..length].to_vec())
        };
        1 + patterns.flat_map(beginnings).collect::<BTreeSet<_>>().len()
    }

    proptest! {
        #[test]
        fn it_finds_what_matches_one_by_one_and_keeps_no_node_too_many(
            texts in prop::collection::vec(text(), 1..40),
            operations in prop::collection::vec((any::<bool>(), any::<Index>()), 0..120),
            names in prop::collection::vec(text(), 20),
        ) {
            let mut patterns = Patterns::new();
            let mut oracle = BTreeMap::new();
            for (value, (is_insert, index)) in operations.into_iter().enumerate() {
                let text = index.get(&texts);
                if is_insert {
                    let old = is_valid(text).then(|| oracle.insert(text, value));
                    prop_assert_eq!(patterns.insert(text, value), old.flatten());
                } else {
                    prop_assert_eq!(patterns.remove(text), oracle.remove(text));
                }
                prop_assert_eq!(patterns.is_empty(), oracle.is_empty());
                prop_assert_eq!(patterns.nodes.len(), nodes(oracle.keys().copied()));
            }
            for name in &names {
                let matching = oracle.iter().filter(|(pattern, _)| matches(pattern, name));
                let expected = BTreeSet::from_iter(matching.map(|(_, value)| *value));
                prop_assert_eq!(found(&patterns, name), Vec::from_iter(expected));
            }
            for (pattern, value) in oracle {
                prop_assert_eq!(patterns.remove(pattern), Some(value));
            }
            prop_assert!(patterns.is_empty());
            prop_assert_eq!(patterns.nodes.len(), 1);
        }
    }
}
