//! One fleet call (SPEC section 3, Fleet commands): whom it asks, who is still to be asked, and until when. What is
//! outstanding is in the table of commands.

use crate::clock::Time;
use crate::core::message::SharedMessage;

/// Router ids in one buffer: thousands of them as strings of their own would take more for their places than for
/// themselves.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// Where each one ends.
    ends: Vec<u32>,
}

impl Names {
    pub fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len() as u32);
    }

    pub fn get(&self, index: u32) -> Option<&str> {
        let index = index as usize;
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.text[start..end])
    }

    pub fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Gives back the room for more.
    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// What it holds, in bytes of heap.
    pub fn held_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

#[derive(Debug)]
pub struct Fleet {
    routers: Names,
    /// The first one that was not asked.
    next: u32,
    /// What they are asked; nothing any more once all were.
    message: Option<SharedMessage>,
    /// Of the whole call, however late a router's turn comes. Nobody needs to watch it: as long as there is somebody to be
    /// asked, there are commands outstanding with the same deadline, or the caller has to take what is queued.
    deadline: Time,
}

impl Fleet {
    pub fn new(mut routers: Names, message: SharedMessage, deadline: Time) -> Self {
        routers.shrink();
        Self { routers, next: 0, message: Some(message), deadline }
    }

    pub fn router(&self, index: u32) -> Option<&str> {
        self.routers.get(index)
    }

    /// How many have had their turn: no more commands than these can be outstanding.
    pub fn asked(&self) -> u32 {
        self.next
    }

    pub fn is_all_asked(&self) -> bool {
        self.next == self.routers.len()
    }

    /// The turn of the next router: its index.
    pub fn take_turn(&mut self) -> Option<u32> {
        let index = (!self.is_all_asked()).then_some(self.next)?;
        self.next += 1;
        Some(index)
    }

    pub fn message(&self) -> Option<&SharedMessage> {
        self.message.as_ref()
    }

    /// For whoever counts it, when all are asked or nobody is to be any more.
    pub fn take_message(&mut self) -> Option<SharedMessage> {
        self.message.take()
    }

    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// What it holds, in bytes of heap, itself included. The message is counted with the commands.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.routers.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        let mut names = Names::default();
        assert!(names.is_empty() && names.get(0).is_none());
        let given = ["a", "", "hub:1", "ä\n\"", "z"];
        given.iter().for_each(|name| names.push(name));
        names.shrink();
        assert!(given.iter().enumerate().all(|(index, name)| names.get(index as u32) == Some(*name)));
        assert_eq!((names.len(), names.get(5)), (5, None));
        assert_eq!(names.held_bytes(), 11 + 5 * 4);
    }

    #[test]
    fn each_router_has_one_turn() {
        let mut names = Names::default();
        ["a", "b"].iter().for_each(|name| names.push(name));
        let mut fleet = Fleet::new(names, SharedMessage::new("do", b"", false), Time(5));
        assert_eq!((fleet.asked(), fleet.take_turn()), (0, Some(0)));
        assert!(!fleet.is_all_asked());
        assert_eq!((fleet.take_turn(), fleet.take_turn()), (Some(1), None));
        assert!(fleet.is_all_asked() && fleet.asked() == 2);
        assert_eq!((fleet.router(1), fleet.router(2)), (Some("b"), None));
    }
}
