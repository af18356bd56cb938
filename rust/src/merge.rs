//! Merging neighbours, the model of most vocabularies: by merge ranks (BPE) or by piece scores (SentencePiece BPE). By
//! ranks it computes what the BPE of the `tokenizers` crate computes, for the options below, from tables that load several
//! times faster: merges are found by their text, so that loading resolves no token ids. That crate has no merging by scores.

use crate::pieces::{hasher, Pieces, Table};
use ahash::RandomState;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NONE: u32 = u32::MAX;

/// What decides which neighbours merge first.
enum Rule {
    /// The merge with the lowest rank.
    Ranks(Merges),
    /// The piece with the highest score: per id its order, 0 being the highest; `NONE` never comes out of a merge.
    Scores(Vec<u32>),
}

/// Options of a merging vocabulary.
#[derive(Default)]
pub struct MergeOptions {
    /// Emitted for what has no piece; without it such text is dropped.
    pub unk: Option<u32>,
    /// Neighbouring unknown characters give one `unk`.
    pub fuse_unk: bool,
    /// A character without a piece becomes its bytes `<0x00>` to `<0xFF>` where the vocabulary has them.
    pub byte_fallback: bool,
    /// A word that is a piece is taken whole, whatever the merges say.
    pub ignore_merges: bool,
}

/// A vocabulary that tokenizes by merging. Immutable once built.
pub struct MergeModel {
    pieces: Pieces,
    rule: Rule,
    options: MergeOptions,
    /// Ids of the byte pieces; `NONE` where absent.
    bytes: Box<[u32; 256]>,
    /// Ids of the pieces of one character below U+0200, which byte-level vocabularies consist of.
    characters: Vec<u32>,
}

/// Pairs of strings by rank, and ranks by pair.
pub struct Merges {
    bytes: Vec<u8>,
    /// Per rank: offset of the pair in `bytes`, lengths of its two sides.
    pairs: Vec<(u32, u32, u32)>,
    table: Table,
    hasher: RandomState,
}

/// A stretch of the word. Merged stretches have length 0.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
    /// `NONE`: decided by the text. Otherwise it does not merge.
    id: u32,
}

/// A merge that may be done: the lowest rank first, then the leftmost. The lengths tell whether its sides have merged since.
type Candidate = Reverse<(u32, u32, u32, u32)>; // rank, left symbol, lengths of left and right

impl Merges {
    /// No merges yet, with room for `count`.
    pub fn with_capacity(count: usize) -> Self {
        Merges {
            bytes: Vec::with_capacity(count * 8),
            pairs: Vec::with_capacity(count),
            table: Table::with_capacity(count),
            hasher: hasher(),
        }
    }

    /// Adds the merge of the next rank. A pair given twice has its last rank.
    pub fn add(&mut self, left: &[u8], right: &[u8]) -> Result<(), String> {
        let rank = self.pairs.len() as u32;
        if self.bytes.len() + left.len() + right.len() >= NONE as usize || rank >= 1 << 30 {
            return Err("the vocabulary has too many merges".to_string());
        }
        self.pairs.push((self.bytes.len() as u32, left.len() as u32, right.len() as u32));
        self.bytes.extend_from_slice(left);
        self.bytes.extend_from_slice(right);
        let Merges { bytes, pairs, table, hasher } = self;
        let pair_of = |rank: u32| pair_at(bytes, pairs, rank);
        let rehash = |rank: u32| hasher.hash_one(pair_of(rank));
        table.insert(hasher.hash_one((left, right)), rank, |other| pair_of(other) == (left, right), rehash);
        Ok(())
    }

    fn rank(&self, left: &[u8], right: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((left, right));
        self.table.find(hash, |rank| pair_at(&self.bytes, &self.pairs, rank) == (left, right))
    }
}

impl Default for Merges {
    fn default() -> Self {
        Self::with_capacity(1 << 16)
    }
}

fn pair_at<'a>(bytes: &'a [u8], pairs: &[(u32, u32, u32)], rank: u32) -> (&'a [u8], &'a [u8]) {
    let (offset, left, right) = pairs[rank as usize];
    bytes[offset as usize..][..(left + right) as usize].split_at(left as usize)
}

impl MergeModel {
    pub fn by_ranks(pieces: Pieces, merges: Merges, options: MergeOptions) -> Self {
        Self::new(pieces, Rule::Ranks(merges), options)
    }

    /// By scores, one per id; `mergeable` tells which ids may come out of text (control tokens must not).
    pub fn by_scores(pieces: Pieces, scores: &[f32], mergeable: impl Fn(u32) -> bool, options: MergeOptions) -> Self {
        let order = (0..pieces.id_limit()).map(|id| match scores.get(id as usize) {
            Some(&score) if mergeable(id) && !score.is_nan() => score_order(score),
            _ => NONE,
        });
        let rule = Rule::Scores(order.collect());
        Self::new(pieces, rule, options)
    }

    fn new(pieces: Pieces, rule: Rule, options: MergeOptions) -> Self {
        let mut bytes = Box::new([NONE; 256]);
        if options.byte_fallback {
            for (byte, id) in bytes.iter_mut().enumerate() {
                *id = pieces.id(format!("<0x{byte:02X}>").as_bytes()).unwrap_or(NONE);
            }
        }
        let mut model = MergeModel { pieces, rule, options, bytes, characters: Vec::new() };
        model.characters =
            (0..0x200u32).map(|code| model.find_character(char::from_u32(code).unwrap_or('\0'))).collect();
        model
    }

    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Calls `emit` with each id of `word`, in order.
    pub fn tokenize(&self, word: &str, mut emit: impl FnMut(u32)) -> Result<(), String> {
        if word.len() >= NONE as usize {
            return Err("the text is longer than 4 GB".to_string());
        }
        if self.options.ignore_merges {
            if let Some(id) = self.pieces.id(word.as_bytes()) {
                emit(id);
                return Ok(());
            }
        }
        // With ranks and without `unk`, characters without a piece vanish, which makes neighbours of what was around them.
        let vanishes = |character: char| {
            self.character(character) == NONE && !self.has_bytes(character.encode_utf8(&mut [0; 4]).as_bytes())
        };
        if matches!(self.rule, Rule::Ranks(_)) && self.options.unk.is_none() && word.chars().any(vanishes) {
            let rest: String = word.chars().filter(|&character| !vanishes(character)).collect();
            return self.merge_and_emit(&rest, &mut emit);
        }
        self.merge_and_emit(word, &mut emit)
    }

    fn merge_and_emit(&self, word: &str, emit: &mut impl FnMut(u32)) -> Result<(), String> {
        let mut symbols = self.split(word);
        self.merge(word.as_bytes(), &mut symbols);
        let mut after_unknown = false;
        for symbol in symbols.iter().filter(|symbol| symbol.len != 0) {
            let text = text_of(word.as_bytes(), symbol);
            let known = if symbol.id != NONE { Some(symbol.id) } else { self.find(text) };
            if let Some(id) = known.filter(|_| known != self.options.unk) {
                after_unknown = false;
                emit(id);
            } else if known.is_none() && self.has_bytes(text) {
                after_unknown = false;
                text.iter().for_each(|&byte| emit(self.bytes[byte as usize]));
            } else if let Some(unk) = self.options.unk {
                if !(after_unknown && self.options.fuse_unk) {
                    emit(unk);
                }
                after_unknown = true;
            } else if matches!(self.rule, Rule::Ranks(_)) {
                let text = String::from_utf8_lossy(text);
                return Err(format!("its merges make the token `{text}`, which its vocabulary lacks"));
            }
        }
        Ok(())
    }

    /// One symbol a character. With ranks, a character without a piece becomes its bytes or `unk` at once; with scores it
    /// may still be part of a longer piece, so that is decided after merging.
    fn split(&self, word: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        for (start, character) in word.char_indices() {
            let len = character.len_utf8();
            let mut add = |start: usize, len: usize, id: u32| {
                let index = symbols.len() as u32;
                symbols.push(Symbol {
                    start: start as u32,
                    len: len as u32,
                    prev: index.wrapping_sub(1),
                    next: index + 1,
                    id,
                });
            };
            let bytes = &word.as_bytes()[start..start + len];
            if matches!(self.rule, Rule::Scores(_)) || self.character(character) != NONE {
                add(start, len, NONE);
            } else if self.has_bytes(bytes) {
                for (i, &byte) in bytes.iter().enumerate() {
                    add(start + i, 1, self.bytes[byte as usize]);
                }
            } else {
                add(start, len, self.options.unk.unwrap_or(NONE));
            }
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        symbols
    }

    fn has_bytes(&self, text: &[u8]) -> bool {
        text.iter().all(|&byte| self.bytes[byte as usize] != NONE)
    }

    fn merge(&self, word: &[u8], symbols: &mut [Symbol]) {
        let mut queue: BinaryHeap<Candidate> = BinaryHeap::with_capacity(symbols.len());
        let add = |queue: &mut BinaryHeap<Candidate>, symbols: &[Symbol], left: u32, right: u32| {
            let (first, second) = (&symbols[left as usize], &symbols[right as usize]);
            if first.id == NONE && second.id == NONE {
                if let Some(rank) = self.rank(word, first, second) {
                    queue.push(Reverse((rank, left, first.len, second.len)));
                }
            }
        };
        for right in 1..symbols.len() as u32 {
            add(&mut queue, symbols, right - 1, right);
        }
        while let Some(Reverse((_, left, left_len, right_len))) = queue.pop() {
            let current = symbols[left as usize];
            if current.len != left_len || current.next == NONE || symbols[current.next as usize].len != right_len {
                continue; // one of its sides has merged
            }
            let right = symbols[current.next as usize];
            symbols[current.next as usize].len = 0;
            symbols[left as usize].len += right.len;
            symbols[left as usize].next = right.next;
            if right.next != NONE {
                symbols[right.next as usize].prev = left;
                add(&mut queue, symbols, left, right.next);
            }
            if current.prev != NONE {
                add(&mut queue, symbols, current.prev, left);
            }
        }
    }

    fn rank(&self, word: &[u8], left: &Symbol, right: &Symbol) -> Option<u32> {
        match &self.rule {
            Rule::Ranks(merges) => merges.rank(text_of(word, left), text_of(word, right)),
            Rule::Scores(order) => {
                let id = self.pieces.id(&word[left.start as usize..(right.start + right.len) as usize])?;
                Some(order[id as usize]).filter(|&rank| rank != NONE)
            }
        }
    }

    /// The id that `text` gets in a text.
    fn find(&self, text: &[u8]) -> Option<u32> {
        let id = self.pieces.id(text)?;
        match &self.rule {
            Rule::Ranks(_) => Some(id),
            Rule::Scores(order) => (order[id as usize] != NONE).then_some(id),
        }
    }

    fn character(&self, character: char) -> u32 {
        match self.characters.get(character as usize) {
            Some(&id) => id,
            None => self.find_character(character),
        }
    }

    fn find_character(&self, character: char) -> u32 {
        self.find(character.encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or(NONE)
    }
}

fn text_of<'a>(word: &'a [u8], symbol: &Symbol) -> &'a [u8] {
    &word[symbol.start as usize..(symbol.start + symbol.len) as usize]
}

/// Maps a score to a number that is the lower the higher the score is, and never `NONE`.
fn score_order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // + 0.0 makes -0.0 equal to 0.0
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(texts: &[&str]) -> Pieces {
        let mut pieces = Pieces::with_capacity(texts.len(), 64);
        for (id, text) in texts.iter().enumerate() {
            pieces.insert(text.as_bytes(), id as u32).unwrap();
        }
        pieces
    }

    fn by_ranks(texts: &[&str], merges: &[(&str, &str)], options: MergeOptions) -> MergeModel {
        let mut table = Merges::with_capacity(merges.len());
        for (left, right) in merges {
            table.add(left.as_bytes(), right.as_bytes()).unwrap();
        }
        MergeModel::by_ranks(vocabulary(texts), table, options)
    }

    fn ids(model: &MergeModel, word: &str) -> Vec<u32> {
        let mut out = Vec::new();
        model.tokenize(word, |id| out.push(id)).unwrap();
        out
    }

    #[test]
    fn scores_order_like_numbers() {
        let scores = [f32::INFINITY, 3.5, 1.0, 0.0, -0.5, -259.0, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|pair| score_order(pair[0]) < score_order(pair[1])));
        assert_eq!(score_order(0.0), score_order(-0.0));
        assert_ne!(score_order(f32::NEG_INFINITY), NONE);
    }

    #[test]
    fn the_lowest_rank_merges_first_and_the_leftmost_on_a_tie() {
        let texts = ["a", "b", "c", "ab", "bc", "aa"];
        let model = by_ranks(&texts, &[("b", "c"), ("a", "b"), ("a", "a")], MergeOptions::default());
        assert_eq!(ids(&model, "abc"), [0, 4]);
        assert_eq!(ids(&model, "aaa"), [5, 0]);
        assert_eq!(ids(&model, "aaaa"), [5, 5]);
        assert_eq!(ids(&model, "axb"), [3]); // without unk the unknown character is dropped before merging
    }

    #[test]
    fn the_highest_score_merges_first() {
        let pieces = vocabulary(&["a", "b", "c", "ab", "bc"]);
        let scores = [0.0, 0.0, 0.0, -2.0, -1.0];
        let model = MergeModel::by_scores(pieces, &scores, |_| true, MergeOptions::default());
        assert_eq!(ids(&model, "abc"), [0, 4]);
    }

    #[test]
    fn control_tokens_never_come_out_of_text() {
        let pieces = vocabulary(&["<", "s", ">", "<s", "<s>"]);
        let scores = [-5.0, -4.0, -3.0, -2.0, 0.0];
        let model = MergeModel::by_scores(pieces, &scores, |id| id != 4, MergeOptions::default());
        assert_eq!(ids(&model, "<s>"), [3, 2]);
    }

    #[test]
    fn unknown_characters_become_bytes_or_one_unk() {
        let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut texts: Vec<&str> = bytes.iter().map(String::as_str).collect();
        texts.push("a");
        let fallback = || MergeOptions { byte_fallback: true, ..Default::default() };
        let scores = vec![0.0; texts.len()];
        let model = MergeModel::by_scores(vocabulary(&texts), &scores, |id| id == 256, fallback());
        assert_eq!(ids(&model, "aé"), [256, 0xC3, 0xA9]);
        let model = by_ranks(&texts, &[], fallback());
        assert_eq!(ids(&model, "éa"), [0xC3, 0xA9, 256]);

        let unk = || MergeOptions { unk: Some(0), fuse_unk: true, ..Default::default() };
        let model = by_ranks(&["?", "a"], &[], unk());
        assert_eq!(ids(&model, "éüaé"), [0, 1, 0]);
        let model = by_ranks(&["?", "a"], &[], MergeOptions { fuse_unk: false, ..unk() });
        assert_eq!(ids(&model, "éüaé"), [0, 0, 1, 0]);
        let model = MergeModel::by_scores(vocabulary(&["?", "a"]), &[0.0, 0.0], |id| id == 1, unk());
        assert_eq!(ids(&model, "éüaé"), [0, 1, 0]);
    }

    #[test]
    fn a_character_that_is_no_piece_may_be_part_of_one() {
        let pieces = vocabulary(&["?", "a", "aé"]);
        let options = MergeOptions { unk: Some(0), ..Default::default() };
        let model = MergeModel::by_scores(pieces, &[0.0, -1.0, -2.0], |id| id != 0, options);
        assert_eq!(ids(&model, "éaéa"), [0, 2, 1]);
    }

    #[test]
    fn a_merge_whose_result_is_no_token_is_an_error_when_it_happens() {
        let model = by_ranks(&["a", "b"], &[("a", "b")], MergeOptions::default());
        assert_eq!(ids(&model, "ba"), [1, 0]);
        assert!(model.tokenize("ab", |_| {}).unwrap_err().contains("`ab`"));
    }
}
