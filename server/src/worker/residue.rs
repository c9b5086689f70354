//! What a worker holds on to, for those who look for leaks.

use super::Worker;
use crate::{driver::Driver, handler::Handler, table::Residue};

impl<H: Handler, D: Driver> Worker<H, D> {
    pub(crate) fn residue(&self) -> Residue {
        let inbox = self.member.hub.inboxes.get(usize::from(self.member.id));
        let is_filled = inbox.is_some_and(|inbox| inbox.is_filled());
        let own = self.connections.table.residue();
        Residue {
            mail: own.mail + self.mail.len() + usize::from(is_filled),
            admitted: self.member.hub.admission.connections(),
            pending: self.member.hub.admission.pending(),
            addresses: self.member.hub.admission.addresses(),
            ..own
        }
    }
}
