//! Who is measured.

use crate::{
    load::Deflate,
    server::{Server, ServerCommand},
    target::Target,
    verify::{verify, verify_publish},
};
use std::error::Error;

/// A server that is measured.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) echo: ServerCommand,
    pub(super) publish: Option<ServerCommand>,
}

type Verify = fn(&Target, &Deflate) -> Result<(), String>;

fn check(command: &ServerCommand, verify: Verify, deflate: &Deflate) -> Result<(), String> {
    let server = Server::start(command).map_err(|error| error.to_string())?;
    verify(server.target(), deflate)
}

/// Leaves out those that do not do what is to be measured, and tells why. The first one has to.
pub(super) fn leave_out(
    contestants: &mut Vec<Contestant>,
    deflate: &Deflate,
    is_fanout: bool,
) -> Result<Vec<String>, Box<dyn Error>> {
    let (mut fit, mut left_out) = (Vec::new(), Vec::new());
    for mut one in contestants.drain(..) {
        let publishes = one
            .publish
            .as_ref()
            .filter(|_| is_fanout)
            .map(|publish| check(publish, verify_publish, deflate));
        match (check(&one.echo, verify, deflate), publishes) {
            (Err(error), _) | (_, Some(Err(error))) if fit.is_empty() => {
                return Err(format!("{}: {error}", one.name).into());
            }
            (Err(error), _) => {
                left_out.push(format!("{} is left out: {error}", one.name));
                continue;
            }
            (Ok(()), Some(Err(error))) => {
                left_out.push(format!("{} is left out of fanout: {error}", one.name));
                one.publish = None;
            }
            (Ok(()), _) => {}
        }
        fit.push(one);
    }
    *contestants = fit;
    Ok(left_out)
}
