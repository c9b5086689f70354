//! The rooms under faults: who stays to the end has seen the same as all others who did.

use crate::{Chat, rooms::Rooms};
use quelea::{
    Config, Worker,
    sim::{ClientEvent, ClientId, ClientOptions, Faults, Plan, Simulation, explore},
};
use std::{cell::Cell, collections::BTreeMap, sync::Arc, time::Duration};

/// What a run does is up to the plan: its seed, its faults, how many steps there are.
/// How many messages were seen by someone who stayed.
fn people_agree(plan: &Plan) -> Result<usize, String> {
    let rooms = Arc::new(Rooms::new());
    let config = Config { workers: Some(plan.workers), ..Config::default() };
    let make = |worker: Worker| Chat { rooms: rooms.clone(), handle: worker.handle().clone() };
    let mut sim = Simulation::new(plan.seed, config, make).map_err(|error| error.to_string())?;
    sim.set_faults(plan.faults);
    let mut people = Vec::new();
    let mut chance = plan.seed;
    for step in 0..u64::from(plan.steps) {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
        let client = chance as usize >> 8;
        if people.len() < 8 && chance >> 61 == 0 {
            let options = ClientOptions {
                target: format!("/rooms/den?name=p{step}"),
                subprotocols: vec!["chat.quelea.v1".into()],
                ..ClientOptions::default()
            };
            people.push(sim.connect_with(options).map_err(|error| error.to_string())?);
        } else if let Some(&client) = people.get(client % 8) {
            sim.send(client, &format!(r#"{{"type":"message","text":"{step}"}}"#));
        }
        sim.run_for(Duration::from_millis(chance >> 58));
    }
    // The network heals: what was accepted arrives.
    sim.set_faults(Faults::NONE);
    people.iter().for_each(|client| sim.resume(*client));
    sim.run_for(Duration::from_secs(120));

    let mut said = BTreeMap::new();
    for client in people {
        if sim.is_open(client) {
            for (number, text) in messages(&mut sim, client)? {
                let known = said.entry(number).or_insert_with(|| text.clone());
                if *known != text {
                    return Err(format!("{number} is {known} to one and {text} to another"));
                }
            }
        }
    }
    Ok(said.len())
}

/// The numbers and texts of what was said while a client was there, none missing.
fn messages(sim: &mut Simulation<Chat>, client: ClientId) -> Result<BTreeMap<u64, String>, String> {
    let mut all = BTreeMap::new();
    for (_, event) in sim.take_events(client) {
        let ClientEvent::Text(text) = event else { continue };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let history = value["history"].as_array().cloned().unwrap_or_default();
        let new = (value["type"] == "message").then_some(value);
        for message in history.into_iter().chain(new) {
            let number = message["id"].as_u64().ok_or("a message has no number")?;
            all.insert(number, message["text"].to_string());
        }
    }
    let numbers: Vec<u64> = all.keys().copied().collect();
    if let Some(gap) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        return Err(format!("somebody has missed what was said between {gap:?}"));
    }
    Ok(all)
}

#[test]
fn people_of_a_room_agree_on_what_was_said_whatever_fails() {
    let plan = Plan { seed: 0, workers: 2, steps: 60, faults: Faults::ALL };
    let seen = Cell::new(0);
    let result = explore(0..100, plan, |plan| {
        seen.set(seen.get() + people_agree(plan)?);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    assert!(seen.get() > 100, "only {} messages were seen: that shows nothing", seen.get());
}
