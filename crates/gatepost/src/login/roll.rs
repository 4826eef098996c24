//! Who is on: every session after login, so that it can be ended.

use relay::clock::{EndOrder, Slot};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The sessions that are being relayed.
#[derive(Default)]
pub struct Roll {
    slots: Mutex<Vec<Weak<Slot>>>,
}

impl Roll {
    /// Writes a session in. It is struck off by itself when its slot is gone.
    pub fn enter(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() == slots.capacity() {
            slots.retain(|slot| slot.strong_count() > 0);
            // Without headroom a roll that is nearly full would be swept at every login.
            let room = slots.len();
            slots.reserve(room.max(64));
        }
        slots.push(Arc::downgrade(slot));
    }

    /// How many are on.
    pub fn count(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|slot| slot.strong_count() > 0).count()
    }

    /// Tells all of them to end.
    pub fn end_all(&self, order: EndOrder) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for slot in slots.iter().filter_map(Weak::upgrade) {
            slot.end(order);
        }
    }
}
