//! The commands about moves.

use tap_reactor::control::{List, MoveDocument, MoveVm, MovedVm};
use tap_reactor::escape::escaped;
use tap_reactor::report::{Table, span};

use super::CtlError;
use super::actions::{list, post, show};
use super::client::{Client, encoded};
use super::command::Call;
use super::text::{lines, time};

pub fn move_vm(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let wish = MoveVm {
        order: format!("{}:{}", call.operand(0), call.operand(1)),
        repeat: call.given_number("repeat")?,
    };
    let body = post(client, PATH, &wish)?;
    show(&body, json, |moved: MovedVm| {
        let MovedVm { vm, from, to, .. } = &moved;
        let [vm, from, to] = [vm, from, to].map(|name| escaped(name));
        let took = span(moved.netlink_ns);
        format!("{vm} moved from {from} to {to} in {took}\n")
    })
}

pub fn moves(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    list(client, PATH, None, json, words)
}

pub fn end_moves(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let target = format!("{PATH}/{}", encoded(call.operand(0)));
    let body = client.request("DELETE", &target, None)?.bytes()?;
    show(&body, json, |all: List<MoveDocument>| words(&all.items))
}

const PATH: &str = "/moves";

/// The moves, in a table.
fn words(all: &[MoveDocument]) -> String {
    if all.is_empty() {
        return "no moves\n".to_owned();
    }
    let mut table = Table::new(5, &["VM", "from", "to", "at", "took"]);
    for each in all {
        table.row([
            escaped(&each.vm),
            each.from.as_deref().map_or_else(String::new, escaped),
            escaped(&each.to),
            time(each.time_ns),
            match (each.netlink_ns, each.to_come) {
                (Some(took), _) => span(took),
                (None, 0 | 1) => "to come".to_owned(),
                (None, more) => format!("to come, {more} there and back"),
            },
        ]);
    }
    lines(&table.lines())
}
