//! How a server is told of a room, and what a message is to it.

use clap::Args;
use serde::Serialize;

/// What the clients of a server say.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Protocol {
    /// How a client joins a room, with {room} and {member} where their names belong: the path that it
    /// asks for if this begins with `/`, otherwise a message that it sends first.
    #[arg(long, value_name = "TEMPLATE", value_parser = parse_join)]
    join: Option<String>,
    /// What a published message is, {payload} where the payload belongs; {room} and {member} are
    /// filled in as well. It is letters and digits only, so that it needs no escapes.
    #[arg(long, value_name = "TEMPLATE", default_value = "{payload}", value_parser = parse_message)]
    message: String,
    /// The subprotocol that clients ask for.
    #[arg(long, value_name = "NAME")]
    pub(crate) subprotocol: Option<String>,
}

fn parse_join(text: &str) -> Result<String, String> {
    if text.contains("{room}") {
        Ok(text.to_owned())
    } else {
        Err("expected {room} in it, where the name of the room belongs".into())
    }
}

fn parse_message(text: &str) -> Result<String, String> {
    match text.matches("{payload}").count() {
        1 => Ok(text.to_owned()),
        _ => Err("expected {payload} in it once".into()),
    }
}

/// How a client comes into its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// All that are connected are in one.
    Already,
    Path(String),
    Message(String),
}

impl Protocol {
    /// Whether the server can tell rooms apart.
    pub(crate) const fn has_rooms(&self) -> bool {
        self.join.is_some()
    }

    pub(crate) fn join(&self, room: &str, member: &str) -> Join {
        match &self.join {
            None => Join::Already,
            Some(template) if template.starts_with('/') => Join::Path(fill(template, room, member)),
            Some(template) => Join::Message(fill(template, room, member)),
        }
    }

    /// What stands before and behind the payload of a message.
    pub(crate) fn around(&self, room: &str, member: &str) -> (String, String) {
        let (before, behind) = self.message.split_once("{payload}").unwrap_or_default();
        (fill(before, room, member), fill(behind, room, member))
    }
}

fn fill(template: &str, room: &str, member: &str) -> String {
    template.replace("{room}", room).replace("{member}", member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        protocol: Protocol,
    }

    fn parse(words: &[&str]) -> Result<Protocol, clap::Error> {
        let words = ["mode"].iter().chain(words);
        Arguments::try_parse_from(words).map(|arguments| arguments.protocol)
    }

    #[test]
    fn rooms_are_joined_by_a_path_or_a_message() {
        let protocol = parse(&["--join", "/r/{room}?name={member}"]).unwrap();
        assert_eq!(protocol.join("a", "b"), Join::Path("/r/a?name=b".into()));
        assert_eq!(protocol.around("a", "b"), (String::new(), String::new()));
        let words =
            ["--join", r#"{"join":"{room}"}"#, "--message", r#"{"to":"{room}","t":"{payload}"}"#];
        let protocol = parse(&words).unwrap();
        assert_eq!(protocol.join("a", "b"), Join::Message(r#"{"join":"a"}"#.into()));
        assert_eq!(protocol.around("a", "b"), (r#"{"to":"a","t":""#.into(), r#""}"#.into()));
        let protocol = parse(&[]).unwrap();
        assert!(protocol.join("a", "b") == Join::Already && !protocol.has_rooms());
    }

    #[test]
    fn what_names_no_room_or_has_no_place_for_the_payload_is_refused() {
        for words in [["--join", "/lobby"], ["--message", "x"], ["--message", "{payload}{payload}"]]
        {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }
}
