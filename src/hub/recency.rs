//! The order in which places of a table were last used.

/// Ends a list.
const NONE: u32 = u32::MAX;

/// A list through places of a table, least recently used first: eight bytes a place.
#[derive(Debug)]
pub(super) struct Recency {
    links: Vec<Links>,
    oldest: u32,
    newest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    older: u32,
    newer: u32,
}

impl Default for Recency {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl Recency {
    /// The place that was not used for longest.
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Notes that `place` is used: it becomes the newest.
    pub fn touch(&mut self, place: u32) {
        self.remove(place);
        self.ensure(place);
        let older = self.newest;
        if let Some(links) = self.links.get_mut(place as usize) {
            *links = Links { older, newer: NONE };
        }
        self.set_newer(older, place);
        self.newest = place;
    }

    /// Takes `place` out, if it is in.
    pub fn remove(&mut self, place: u32) {
        if !self.contains(place) {
            return;
        }
        let Links { older, newer } = self.links[place as usize];
        self.set_newer(older, newer);
        self.set_older(newer, older);
        self.links[place as usize] = Links::of_none(place);
    }

    fn contains(&self, place: u32) -> bool {
        // A place that is out points to itself.
        let links = self.links.get(place as usize);
        links.is_some_and(|links| links.older != place)
    }

    fn set_newer(&mut self, place: u32, newer: u32) {
        match self.links.get_mut(place as usize) {
            Some(links) => links.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn set_older(&mut self, place: u32, older: u32) {
        match self.links.get_mut(place as usize) {
            Some(links) => links.older = older,
            None => self.newest = older,
        }
    }

    /// Grows by an eighth, not by doubling, which would hold twice the memory just when there are the
    /// most places.
    fn ensure(&mut self, place: u32) {
        let len = self.links.len();
        if place as usize >= len {
            let more = (place as usize + 1 - len).max(len / 8).max(256);
            self.links.reserve_exact(more);
            let places = len as u32..(len + more) as u32;
            self.links.extend(places.map(Links::of_none));
        }
    }
}

impl Links {
    /// Those of a place that is out.
    fn of_none(place: u32) -> Self {
        Self {
            older: place,
            newer: place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0u8..4, 0u32..600), 1..200)) {
            let mut recency = Recency::default();
            let mut model: Vec<u32> = Vec::new();
            for (step, place) in steps {
                let place = place % 600;
                model.retain(|other| *other != place);
                if step == 0 {
                    recency.remove(place);
                } else {
                    recency.touch(place);
                    model.push(place);
                }
                prop_assert_eq!(recency.oldest(), model.first().copied());
            }
            while let Some(place) = recency.oldest() {
                prop_assert_eq!(place, model.remove(0));
                recency.remove(place);
            }
            prop_assert!(model.is_empty());
        }
    }
}
