//! Who is subscribed to what: names, members, and nothing of what is published.

use super::{
    patterns::Patterns,
    slots::{SlotId, Slots},
};
use slab::Slab;
use std::collections::HashMap;

/// Names a topic for as long as it has members.
pub(crate) type TopicId = SlotId;

/// Topics with their members, by slot index; `T` is what the user of it keeps with each topic.
///
/// Subscribing and unsubscribing take as long as the slot has topics, however many members those
/// have. Members lie one after the other, so that a publish walks memory in order. A topic without
/// members is gone. A pattern is a topic that what is published to other names goes to as well.
///
/// One name has a topic for each form in which its members are sent things, as each has bytes of its own.
#[derive(Debug)]
pub(crate) struct Topics<T> {
    /// The first topic of each name: see [`Topic::sibling`].
    names: HashMap<Box<str>, TopicId>,
    patterns: HashMap<Box<str>, TopicId>,
    matcher: Patterns<TopicId>,
    topics: Slots<Topic<T>>,
    subscriptions: Slab<Subscription>,
    /// The first subscription of each slot.
    first: Vec<u32>,
    /// The first topic of the name that was found last: often it is the next one as well.
    last: Option<TopicId>,
}

/// What the name of a topic means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Itself.
    Exact,
    /// The names that it matches.
    Pattern,
}

/// In which form the members of a topic are sent what is published; 0 for plain frames.
pub(crate) type Form = u8;

#[derive(Debug)]
struct Topic<T> {
    name: Box<str>,
    kind: Kind,
    form: Form,
    /// The next topic of the same name and kind, in another form.
    sibling: Option<TopicId>,
    members: Vec<Member>,
    data: T,
}

/// A slot that is subscribed to a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    slot: u32,
    subscription: u32,
}

impl Member {
    pub(crate) const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// One slot in one topic.
#[derive(Debug)]
struct Subscription {
    topic: TopicId,
    /// Where the member is in the topic.
    position: u32,
    /// The next subscription of the slot.
    next: u32,
    /// The slot is to get the latest message of the topic once it can.
    is_owed: bool,
}

const NONE: u32 = u32::MAX;

impl<T> Topics<T> {
    pub(crate) fn new() -> Self {
        Self {
            names: HashMap::new(),
            patterns: HashMap::new(),
            matcher: Patterns::new(),
            topics: Slots::new(),
            subscriptions: Slab::new(),
            first: Vec::new(),
            last: None,
        }
    }

    /// How many subscriptions there are.
    #[cfg(feature = "sim")]
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn find(&self, name: &str, kind: Kind, form: Form) -> Option<TopicId> {
        let is_it = |id: &TopicId| self.form(*id) == form;
        self.siblings(self.first_of(name, kind)).find(is_it)
    }

    fn first_of(&self, name: &str, kind: Kind) -> Option<TopicId> {
        match kind {
            Kind::Exact => self.names.get(name).copied(),
            Kind::Pattern => self.patterns.get(name).copied(),
        }
    }

    /// A topic and those of the same name behind it.
    fn siblings(&self, first: Option<TopicId>) -> impl Iterator<Item = TopicId> + '_ {
        std::iter::successors(first, |id| self.topics.get(*id)?.sibling)
    }

    /// In which form its members are sent what is published.
    pub(crate) fn form(&self, topic: TopicId) -> Form {
        self.topics.get(topic).map_or(0, |topic| topic.form)
    }

    /// Appends the topics of a name, and of the patterns that match it.
    pub(crate) fn find_all(&mut self, name: &str, found: &mut Vec<TopicId>) {
        let is_last = |last: &TopicId| {
            let last = self.topics.get(*last);
            last.is_some_and(|last| last.kind == Kind::Exact && *last.name == *name)
        };
        let exact = self.last.filter(is_last).or_else(|| self.names.get(name).copied());
        self.last = exact;
        let start = found.len();
        found.extend(exact);
        if !self.matcher.is_empty() {
            self.matcher.matches(name, found);
        }
        for at in start..found.len() {
            let sibling = self.topics.get(found[at]).and_then(|topic| topic.sibling);
            found.extend(self.siblings(sibling));
        }
    }

    /// Adds a slot to a topic, which is made with `make` if need be; `None` if the slot is there
    /// already, or if there is no room for one more topic.
    pub(crate) fn subscribe(
        &mut self,
        slot: usize,
        name: &str,
        kind: Kind,
        form: Form,
        make: impl FnOnce() -> T,
    ) -> Option<TopicId> {
        let topic = match self.find(name, kind, form) {
            Some(topic) if self.subscription_of(slot, topic).is_some() => return None,
            Some(topic) => topic,
            None => self.add(name, kind, form, make())?,
        };
        if self.first.len() <= slot {
            self.first.resize(slot + 1, NONE);
        }
        let members = &mut self.topics.get_mut(topic)?.members;
        let position = members.len() as u32;
        let next = self.first[slot];
        let subscription = Subscription { topic, position, next, is_owed: false };
        let key = self.subscriptions.insert(subscription) as u32;
        members.push(Member { slot: slot as u32, subscription: key });
        self.first[slot] = key;
        Some(topic)
    }

    fn add(&mut self, name: &str, kind: Kind, form: Form, data: T) -> Option<TopicId> {
        let first = self.first_of(name, kind);
        let topic =
            Topic { name: name.into(), kind, form, sibling: None, members: Vec::new(), data };
        let id = self.topics.insert(topic).ok()?;
        if let Some(first) = first.and_then(|first| self.topics.get_mut(first)) {
            let second = first.sibling.replace(id);
            if let Some(topic) = self.topics.get_mut(id) {
                topic.sibling = second;
            }
            return Some(id);
        }
        match kind {
            Kind::Exact => {
                self.names.insert(name.into(), id);
            }
            Kind::Pattern => {
                self.patterns.insert(name.into(), id);
                self.matcher.insert(name, id);
            }
        }
        Some(id)
    }

    /// Takes a slot out of a topic; whether it was there.
    pub(crate) fn unsubscribe(&mut self, slot: usize, topic: TopicId) -> bool {
        let mut before = NONE;
        let mut key = self.first(slot);
        while let Some(subscription) = self.subscriptions.get(key as usize) {
            let next = subscription.next;
            if subscription.topic == topic {
                match self.subscriptions.get_mut(before as usize) {
                    Some(before) => before.next = next,
                    None => self.first[slot] = next,
                }
                self.remove(key);
                return true;
            }
            (before, key) = (key, next);
        }
        false
    }

    /// Takes a slot out of all its topics.
    pub(crate) fn unsubscribe_all(&mut self, slot: usize) {
        let mut key = self.first(slot);
        if key == NONE {
            return;
        }
        self.first[slot] = NONE;
        while key != NONE {
            key = self.remove(key);
        }
    }

    /// The topics of a slot, and its membership in each.
    pub(crate) fn of_slot(&self, slot: usize) -> impl Iterator<Item = (TopicId, Member)> + '_ {
        self.keys(slot).map(move |key| {
            let member = Member { slot: slot as u32, subscription: key as u32 };
            (self.subscriptions[key].topic, member)
        })
    }

    pub(crate) fn is_subscribed(&self, slot: usize, topic: TopicId) -> bool {
        self.subscription_of(slot, topic).is_some()
    }

    /// Whether a slot has any topic.
    #[inline]
    pub(crate) fn has_any(&self, slot: usize) -> bool {
        self.first(slot) != NONE
    }

    /// How many topics a slot has.
    pub(crate) fn count_of_slot(&self, slot: usize) -> usize {
        self.keys(slot).count()
    }

    /// Notes whether a member is to get the latest message of a topic later; whether it was to before.
    pub(crate) fn set_owed(&mut self, member: Member, is_owed: bool) -> bool {
        let subscription = self.subscriptions.get_mut(member.subscription as usize);
        subscription.is_some_and(|one| std::mem::replace(&mut one.is_owed, is_owed))
    }

    /// Where a member is among those of its topic.
    pub(crate) fn position(&self, member: Member) -> usize {
        let subscription = self.subscriptions.get(member.subscription as usize);
        subscription.map_or(0, |one| one.position as usize)
    }

    /// Appends the memberships whose topic's latest message a slot is to get, and notes that it gets
    /// them.
    pub(crate) fn take_owed(&mut self, slot: usize, owed: &mut Vec<(TopicId, Member)>) {
        let mut key = self.first(slot);
        while let Some(subscription) = self.subscriptions.get_mut(key as usize) {
            if std::mem::take(&mut subscription.is_owed) {
                owed.push((subscription.topic, Member { slot: slot as u32, subscription: key }));
            }
            key = subscription.next;
        }
    }

    /// The membership of a slot in a topic.
    pub(crate) fn member(&self, slot: usize, topic: TopicId) -> Option<Member> {
        let subscription = self.subscription_of(slot, topic)? as u32;
        Some(Member { slot: slot as u32, subscription })
    }

    /// The members of a topic, and what is kept with it.
    pub(crate) fn get(&self, topic: TopicId) -> Option<(&[Member], &T)> {
        self.topics.get(topic).map(|topic| (&topic.members[..], &topic.data))
    }

    pub(crate) fn get_mut(&mut self, topic: TopicId) -> Option<(&[Member], &mut T)> {
        self.topics.get_mut(topic).map(|topic| (&topic.members[..], &mut topic.data))
    }

    fn first(&self, slot: usize) -> u32 {
        self.first.get(slot).copied().unwrap_or(NONE)
    }

    fn keys(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        let index = |key: u32| (key != NONE).then_some(key as usize);
        std::iter::successors(index(self.first(slot)), move |key| {
            index(self.subscriptions[*key].next)
        })
    }

    fn subscription_of(&self, slot: usize, topic: TopicId) -> Option<usize> {
        self.keys(slot).find(|key| self.subscriptions[*key].topic == topic)
    }

    /// Removes a subscription that its slot no longer leads to; returns the slot's next one.
    fn remove(&mut self, key: u32) -> u32 {
        let Subscription { topic: id, position, next, .. } =
            self.subscriptions.remove(key as usize);
        let Some(topic) = self.topics.get_mut(id) else { return next };
        topic.members.swap_remove(position as usize);
        if let Some(moved) = topic.members.get(position as usize) {
            self.subscriptions[moved.subscription as usize].position = position;
        }
        if topic.members.is_empty()
            && let Some(topic) = self.topics.remove(id)
        {
            self.remove_name(id, &topic);
        }
        next
    }

    /// Lets nothing lead to a topic that is gone.
    fn remove_name(&mut self, id: TopicId, topic: &Topic<T>) {
        let Some(first) = self.first_of(&topic.name, topic.kind) else { return };
        if first != id {
            let mut siblings = self.siblings(Some(first));
            let before =
                siblings.find(|at| self.topics.get(*at).is_some_and(|at| at.sibling == Some(id)));
            drop(siblings);
            if let Some(before) = before.and_then(|before| self.topics.get_mut(before)) {
                before.sibling = topic.sibling;
            }
            return;
        }
        match (topic.kind, topic.sibling) {
            (Kind::Exact, Some(next)) => {
                self.names.insert(topic.name.clone(), next);
            }
            (Kind::Exact, None) => {
                self.names.remove(&topic.name);
            }
            (Kind::Pattern, Some(next)) => {
                self.patterns.insert(topic.name.clone(), next);
                self.matcher.insert(&topic.name, next);
            }
            (Kind::Pattern, None) => {
                self.patterns.remove(&topic.name);
                self.matcher.remove(&topic.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Clone, Debug)]
    enum Operation {
        Subscribe(usize, u8),
        Unsubscribe(usize, u8),
        Leave(usize),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            5 => (0usize..20, 0u8..6).prop_map(|(slot, name)| Operation::Subscribe(slot, name)),
            3 => (0usize..20, 0u8..6).prop_map(|(slot, name)| Operation::Unsubscribe(slot, name)),
            1 => (0usize..20).prop_map(Operation::Leave),
        ]
    }

    #[test]
    fn a_pattern_is_a_topic_of_its_own_and_gone_with_its_last_member() {
        let mut topics = Topics::new();
        let pattern = topics.subscribe(1, "a.*", Kind::Pattern, 0, || ()).unwrap();
        let exact = topics.subscribe(2, "a.*", Kind::Exact, 0, || ()).unwrap();
        assert_ne!(pattern, exact);
        let found = |topics: &mut Topics<()>, name| {
            let mut found = Vec::new();
            topics.find_all(name, &mut found);
            found
        };
        assert_eq!(found(&mut topics, "a.b"), [pattern]);
        assert_eq!(found(&mut topics, "a.b.c"), []);
        topics.unsubscribe_all(1);
        assert!(topics.matcher.is_empty() && found(&mut topics, "a.b").is_empty());
        assert_eq!(topics.find("a.*", Kind::Exact, 0), Some(exact));
        assert_eq!(found(&mut topics, "a.*"), [exact]);
        assert_eq!(found(&mut topics, "a.*"), [exact], "by what was last found");
        topics.unsubscribe_all(2);
        assert_eq!(found(&mut topics, "a.*"), []);
    }

    #[test]
    fn a_pattern_has_a_topic_for_each_form_and_each_is_found_until_its_last_member_leaves() {
        let mut topics = Topics::new();
        for slot in 1..=3 {
            topics.subscribe(slot, "a.*", Kind::Pattern, slot as Form, || ()).unwrap();
        }
        let forms = |topics: &mut Topics<()>| {
            let mut found = Vec::new();
            topics.find_all("a.b", &mut found);
            let forms: BTreeSet<_> = found.iter().map(|id| topics.form(*id)).collect();
            assert_eq!(forms.len(), found.len());
            forms.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(forms(&mut topics), [1, 2, 3]);
        topics.unsubscribe_all(1);
        assert_eq!(forms(&mut topics), [2, 3]);
        topics.unsubscribe_all(3);
        assert_eq!(forms(&mut topics), [2]);
        topics.unsubscribe_all(2);
        assert!(forms(&mut topics).is_empty() && topics.matcher.is_empty());
    }

    #[test]
    fn what_is_owed_is_taken_once_and_only_by_its_slot() {
        let mut topics = Topics::new();
        let a = topics.subscribe(1, "a", Kind::Exact, 0, || ()).unwrap();
        let b = topics.subscribe(1, "b", Kind::Exact, 0, || ()).unwrap();
        topics.subscribe(2, "a", Kind::Exact, 0, || ()).unwrap();
        topics.set_owed(topics.member(1, a).unwrap(), true);
        topics.set_owed(topics.member(1, b).unwrap(), true);
        let mut owed = Vec::new();
        topics.take_owed(2, &mut owed);
        assert!(owed.is_empty());
        topics.take_owed(1, &mut owed);
        assert!(owed.iter().map(|(topic, _)| *topic).eq([b, a]));
        topics.take_owed(1, &mut owed);
        assert_eq!(owed.len(), 2);
    }

    proptest! {
        #[test]
        fn members_are_those_of_a_map_of_sets(
            operations in prop::collection::vec(operation(), 0..300),
        ) {
            let mut topics = Topics::<()>::new();
            let mut oracle: BTreeMap<(String, Form), BTreeSet<usize>> = BTreeMap::new();
            let form_of = |slot: usize| (slot % 3) as Form;
            for operation in operations {
                match operation {
                    Operation::Subscribe(slot, name) => {
                        let (name, form) = (name.to_string(), form_of(slot));
                        let is_new = topics.subscribe(slot, &name, Kind::Exact, form, || ()).is_some();
                        prop_assert_eq!(is_new, oracle.entry((name, form)).or_default().insert(slot));
                    }
                    Operation::Unsubscribe(slot, name) => {
                        let (name, form) = (name.to_string(), form_of(slot));
                        let topic = topics.find(&name, Kind::Exact, form);
                        let was = topic.is_some_and(|id| topics.unsubscribe(slot, id));
                        prop_assert_eq!(was, oracle.entry((name, form)).or_default().remove(&slot));
                    }
                    Operation::Leave(slot) => {
                        topics.unsubscribe_all(slot);
                        oracle.values_mut().for_each(|members| { members.remove(&slot); });
                    }
                }
                oracle.retain(|_, members| !members.is_empty());
                let names: BTreeSet<_> = oracle.keys().map(|(name, _)| name).collect();
                prop_assert_eq!(topics.names.len(), names.len());
                for name in names {
                    let mut found = Vec::new();
                    topics.find_all(name, &mut found);
                    let forms: BTreeSet<_> = found.iter().map(|id| topics.form(*id)).collect();
                    let expected = oracle.keys().filter(|(other, _)| other == name);
                    prop_assert!(forms.iter().eq(expected.map(|(_, form)| form)));
                    prop_assert_eq!(found.len(), forms.len());
                }
                prop_assert_eq!(topics.topics.len(), oracle.len());
                let total: usize = oracle.values().map(BTreeSet::len).sum();
                prop_assert_eq!(topics.subscriptions.len(), total);
                for ((name, form), expected) in &oracle {
                    let id = topics.find(name, Kind::Exact, *form).unwrap();
                    let (members, ()) = topics.get(id).unwrap();
                    let found: BTreeSet<_> = members.iter().map(|member| member.slot()).collect();
                    prop_assert_eq!(&found, expected);
                    prop_assert_eq!(members.len(), expected.len());
                }
                for slot in 0..20 {
                    let found: BTreeSet<_> = topics.of_slot(slot).map(|(id, _)| {
                        topics.topics.get(id).unwrap().name.to_string()
                    }).collect();
                    let expected: BTreeSet<_> = oracle
                        .iter()
                        .filter(|(_, members)| members.contains(&slot))
                        .map(|((name, _), _)| name.clone())
                        .collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
