//! Whether somebody follows a dialogue (`gatepost trace`), and what becomes known of it.
//!
//! While nobody does, all of it is one relaxed load before each step.

use super::talk::Talk;
use crate::trace::{Tap, Who};
use crate::witness::Known;
use std::sync::Arc;
use wire::login::Front;

impl Talk<'_> {
    /// Looks whether somebody traces, now that the client or we are about to say something.
    pub(super) fn listen(&mut self, front: &mut dyn Front) {
        if let Some(any) = self.followed() {
            front.overhear(any);
        }
    }

    /// Whether somebody follows now; `None` where that is nothing new.
    pub(crate) fn followed(&mut self) -> Option<bool> {
        let any = self.house.tracers.any();
        if any == self.record.tap.is_some() {
            return None;
        }
        self.record.tap = any.then(|| self.tap(true));
        Some(any)
    }

    /// What somebody may follow; it is so far known what it is known by now.
    pub(crate) fn tap(&self, under_way: bool) -> Arc<Tap> {
        let origin = &self.who.origin;
        let who = Who {
            number: self.entry.number,
            protocol: self.door.protocol.name,
            listener: self.door.bound.clone(),
            clients: vec![origin.client.0],
            sessions: vec![origin.session.as_str().into()],
            users: Vec::new(),
            backends: Vec::new(),
        };
        Arc::new(Tap::new(&self.house.tracers, who, under_way))
    }

    /// Tells who follows what is known now.
    pub(super) fn known(&self, known: &Known<'_>) {
        if let Some(tap) = &self.record.tap {
            tap.learn(known);
        }
    }
}
