//! Strings with ids in one arena, found through an open-addressing table. Loading 200,000 of them costs one allocation of
//! the text and one of the table, where a map of owned strings would cost one each.

use ahash::RandomState;

const NONE: u32 = u32::MAX;

/// Ids by hash; whoever owns the strings compares them. A power of two slots, at most half full.
pub struct Table {
    /// (upper half of the hash, id); `NONE` marks a free slot.
    slots: Vec<(u32, u32)>,
    count: usize,
}

impl Table {
    pub fn with_capacity(count: usize) -> Self {
        Table { slots: vec![(0, NONE); (count.max(8) * 2).next_power_of_two()], count: 0 }
    }

    /// The id with this hash for which `same` holds.
    pub fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let id = self.slots[self.slot(hash, same)].1;
        (id != NONE).then_some(id)
    }

    /// Enters `id`, in place of an id for which `same` holds.
    pub fn insert(&mut self, hash: u64, id: u32, same: impl Fn(u32) -> bool, rehash: impl Fn(u32) -> u64) {
        if self.count * 2 >= self.slots.len() {
            let old = std::mem::replace(self, Table::with_capacity(self.count * 2));
            self.count = old.count;
            for (_, id) in old.slots.into_iter().filter(|slot| slot.1 != NONE) {
                let slot = self.slot(rehash(id), |_| false);
                self.slots[slot] = (tag(rehash(id)), id);
            }
        }
        let slot = self.slot(hash, same);
        self.count += usize::from(self.slots[slot].1 == NONE);
        self.slots[slot] = (tag(hash), id);
    }

    /// The slot of an id for which `same` holds, or the free one where it would go.
    fn slot(&self, hash: u64, same: impl Fn(u32) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let (other, id) = self.slots[slot];
            if id == NONE || (other == tag(hash) && same(id)) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The same on every run, so that a run can be repeated.
pub fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Strings by id (ids may have gaps) and ids by string.
pub struct Pieces {
    bytes: Vec<u8>,
    /// Per id: offset and length in `bytes`; a missing id has length `NONE`.
    spans: Vec<(u32, u32)>,
    table: Table,
    hasher: RandomState,
    count: usize,
}

impl Pieces {
    /// An empty vocabulary with room for `count` strings of `bytes` bytes in all.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Pieces {
            bytes: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(count),
            table: Table::with_capacity(count),
            hasher: hasher(),
            count: 0,
        }
    }

    /// Gives `text` the id `id`. A string given twice answers to its last id.
    pub fn insert(&mut self, text: &[u8], id: u32) -> Result<(), String> {
        if self.bytes.len() + text.len() >= NONE as usize || id >= 1 << 30 {
            return Err(format!("token {id} does not fit: the vocabulary is too large"));
        }
        let span = (self.bytes.len() as u32, text.len() as u32);
        self.bytes.extend_from_slice(text);
        if id as usize >= self.spans.len() {
            self.spans.resize(id as usize + 1, (0, NONE));
        }
        self.spans[id as usize] = span;
        self.count += 1;
        let Pieces { bytes, spans, table, hasher, .. } = self;
        let text_of = |id: u32| text_at(bytes, spans, id);
        let rehash = |id: u32| hasher.hash_one(text_of(id).unwrap_or_default());
        table.insert(hasher.hash_one(text), id, |other| text_of(other) == Some(text), rehash);
        Ok(())
    }

    /// Number of strings given.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One past the highest id.
    pub fn id_limit(&self) -> u32 {
        self.spans.len() as u32
    }

    /// The string of `id`.
    pub fn text(&self, id: u32) -> Option<&[u8]> {
        text_at(&self.bytes, &self.spans, id)
    }

    /// The id of `text`.
    pub fn id(&self, text: &[u8]) -> Option<u32> {
        self.table.find(self.hasher.hash_one(text), |id| self.text(id) == Some(text))
    }
}

fn text_at<'a>(bytes: &'a [u8], spans: &[(u32, u32)], id: u32) -> Option<&'a [u8]> {
    let &(offset, len) = spans.get(id as usize)?;
    (len != NONE).then(|| &bytes[offset as usize..offset as usize + len as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_through_growth() {
        let mut pieces = Pieces::with_capacity(2, 0);
        for i in 0..1000u32 {
            pieces.insert(format!("piece {i}").as_bytes(), i * 2).unwrap();
        }
        for i in 0..1000u32 {
            let text = format!("piece {i}");
            assert_eq!(pieces.id(text.as_bytes()), Some(i * 2));
            assert_eq!(pieces.text(i * 2), Some(text.as_bytes()));
            assert_eq!(pieces.text(i * 2 + 1), None);
        }
        assert_eq!(pieces.id(b"absent"), None);
        assert_eq!(pieces.id_limit(), 1999);
    }

    #[test]
    fn a_repeated_string_answers_to_its_last_id() {
        let mut pieces = Pieces::with_capacity(2, 8);
        pieces.insert(b"a", 0).unwrap();
        pieces.insert(b"a", 1).unwrap();
        assert_eq!(pieces.id(b"a"), Some(1));
        assert_eq!(pieces.text(0), Some(&b"a"[..]));
    }
}
