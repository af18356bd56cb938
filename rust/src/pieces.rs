//! The strings of a vocabulary in one arena, with an index from string to id. Loading 200,000 strings costs one
//! allocation of the text and one of the index, where a map of owned strings would cost one each.

use ahash::RandomState;

const EMPTY: u32 = u32::MAX;

/// Strings by id (ids may have gaps) and ids by string.
pub struct Pieces {
    bytes: Vec<u8>,
    /// Per id: offset and length in `bytes`; a missing id has length `EMPTY`.
    spans: Vec<(u32, u32)>,
    /// Open addressing, a power of two in size and at most half full; `EMPTY` marks a free slot.
    slots: Vec<u32>,
    hasher: RandomState,
    count: usize,
}

impl Pieces {
    /// An empty vocabulary with room for `count` strings of `bytes` bytes in all.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        let slots = (count.max(8) * 2).next_power_of_two();
        Pieces {
            bytes: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(count),
            slots: vec![EMPTY; slots],
            hasher: RandomState::with_seeds(1, 2, 3, 4),
            count: 0,
        }
    }

    /// Gives `text` the id `id`. A string given twice answers to its last id. Fails when the vocabulary outgrows 32 bits.
    pub fn insert(&mut self, text: &[u8], id: u32) -> Result<(), String> {
        if self.bytes.len() + text.len() >= EMPTY as usize || id >= 1 << 30 {
            return Err(format!("token {id} does not fit: the vocabulary is too large"));
        }
        let span = (self.bytes.len() as u32, text.len() as u32);
        self.bytes.extend_from_slice(text);
        if id as usize >= self.spans.len() {
            self.spans.resize(id as usize + 1, (0, EMPTY));
        }
        self.spans[id as usize] = span;
        self.count += 1;
        if self.count * 2 > self.slots.len() {
            self.grow();
        }
        let slot = self.find_slot(text);
        self.slots[slot] = id;
        Ok(())
    }

    /// Number of strings given.
    pub fn len(&self) -> usize {
        self.count
    }

    /// One past the highest id.
    pub fn id_limit(&self) -> u32 {
        self.spans.len() as u32
    }

    /// The string of `id`.
    pub fn text(&self, id: u32) -> Option<&[u8]> {
        let &(offset, len) = self.spans.get(id as usize)?;
        if len == EMPTY {
            return None;
        }
        Some(&self.bytes[offset as usize..offset as usize + len as usize])
    }

    /// The id of `text`.
    pub fn id(&self, text: &[u8]) -> Option<u32> {
        let id = self.slots[self.find_slot(text)];
        (id != EMPTY).then_some(id)
    }

    /// The slot that holds `text`, or the free one where it would go.
    fn find_slot(&self, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(text) as usize & mask;
        loop {
            let id = self.slots[slot];
            if id == EMPTY || self.text(id) == Some(text) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let ids: Vec<u32> = self.slots.iter().copied().filter(|&id| id != EMPTY).collect();
        self.slots = vec![EMPTY; self.slots.len() * 2];
        for id in ids {
            let slot = self.find_slot(self.text(id).unwrap_or_default());
            self.slots[slot] = id;
        }
    }
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
