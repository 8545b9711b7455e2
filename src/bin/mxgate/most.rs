//! Who comes most often, of however many, in fixed memory: the algorithm Space-Saving (Metwally, Agrawal, El Abbadi, 2005).
//! Whoever makes up more than one in [`PLACES`] of all is among those that are kept, and no number is too small; by how much
//! it may be too large is known.

/// So many are told apart.
const PLACES: usize = 256;

/// Counts whatever comes.
#[derive(Debug)]
pub(crate) struct Most<T>(Vec<Counted<T>>);

/// One that came often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted<T> {
    pub(crate) what: T,
    /// How often it came at most.
    pub(crate) number: u64,
    /// How many of these may have been others, which had its place before.
    pub(crate) doubtful: u64,
}

impl<T> Counted<T> {
    /// The same number of something else.
    pub(crate) fn map<U>(self, name: impl FnOnce(T) -> U) -> Counted<U> {
        Counted { what: name(self.what), number: self.number, doubtful: self.doubtful }
    }
}

impl<T: Clone + Ord> Most<T> {
    /// Nothing has come.
    pub(crate) fn new() -> Most<T> {
        Most(Vec::with_capacity(PLACES))
    }

    /// One more. Looks at every place: a microsecond at most.
    pub(crate) fn add(&mut self, what: &T) {
        if let Some(counted) = self.0.iter_mut().find(|counted| counted.what == *what) {
            counted.number += 1;
        } else if self.0.len() < PLACES {
            self.0.push(Counted { what: what.clone(), number: 1, doubtful: 0 });
        } else if let Some(least) = self.0.iter_mut().min_by_key(|counted| counted.number) {
            *least = Counted { what: what.clone(), number: least.number + 1, doubtful: least.number };
        }
    }

    /// Those that came most often.
    pub(crate) fn first(&self, most: usize) -> Vec<Counted<T>> {
        let mut counted = self.0.clone();
        counted.sort_by(|one, other| other.number.cmp(&one.number).then_with(|| one.what.cmp(&other.what)));
        counted.truncate(most);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn who_comes_often_is_found_among_very_many() {
        let mut most = Most::new();
        let capacity = most.0.capacity();
        for other in 0..100_000_u32 {
            most.add(&(1000 + other));
            if other % 50 == 0 {
                most.add(&7);
            }
        }
        let [first] = most.first(1).try_into().unwrap();
        assert_eq!(first.what, 7);
        assert!(first.number >= 2000 && first.number - first.doubtful <= 2000, "{first:?}");
        assert_eq!((most.0.len(), most.0.capacity()), (PLACES, capacity));
    }

    proptest! {
        #[test]
        fn numbers_are_between_their_bounds(coming in proptest::collection::vec((0_u32..600).prop_map(|number| number * number / 600), 0..3000)) {
            let (mut most, mut exact) = (Most::new(), HashMap::new());
            for what in &coming {
                most.add(what);
                *exact.entry(*what).or_insert(0_u64) += 1;
            }
            for Counted { what, number, doubtful } in most.first(PLACES) {
                prop_assert!((number - doubtful..=number).contains(&exact[&what]));
            }
            let kept: Vec<u32> = most.first(PLACES).iter().map(|counted| counted.what).collect();
            let frequent = |number: u64| number * PLACES as u64 > coming.len() as u64;
            prop_assert!(coming.iter().all(|what| !frequent(exact[what]) || kept.contains(what)));
        }
    }
}
