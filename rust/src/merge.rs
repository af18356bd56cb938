//! Byte pair merging, the model of most vocabularies: by merge ranks (GPT-2 style BPE) or by piece scores
//! (SentencePiece BPE). It computes what the BPE of the `tokenizers` crate computes, for the options below, from tables
//! that load several times faster, and adds the merging by scores that the crate lacks.

use crate::pieces::Pieces;
use ahash::AHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NONE: u32 = u32::MAX;

/// What decides which neighbours merge first.
enum Rule {
    /// (left id, right id) -> (rank, merged id); the lowest rank first.
    Ranks(AHashMap<u64, (u32, u32)>),
    /// Per id the order of its score, the highest score having the lowest number; `NONE` never comes out of a merge.
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
}

/// A stretch of the word; merged stretches have length 0.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    len: u32,
    id: u32,
    prev: u32,
    next: u32,
}

/// A candidate in the queue: the lowest rank first, then the leftmost.
type Candidate = Reverse<(u32, u32, u32)>; // rank, position of the left symbol, merged id

impl MergeModel {
    /// A model by ranks. A merge that names a string outside the vocabulary is an error if `strict`, else ignored.
    pub fn by_ranks<'a>(
        pieces: Pieces,
        merges: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
        strict: bool,
        options: MergeOptions,
    ) -> Result<Self, String> {
        let mut ranks = AHashMap::with_capacity(merges.len());
        let mut joined = Vec::new();
        for (rank, (left, right)) in merges.enumerate() {
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            let found = (pieces.id(left), pieces.id(right), pieces.id(&joined));
            if let (Some(left), Some(right), Some(merged)) = found {
                ranks.insert(pair_key(left, right), (rank as u32, merged));
            } else if strict {
                let [left, right] = [left, right].map(String::from_utf8_lossy);
                return Err(format!("merge {rank} (`{left}` and `{right}`) uses a token that the vocabulary lacks"));
            }
        }
        Ok(Self::new(pieces, Rule::Ranks(ranks), options))
    }

    /// A model by scores, one per id; `mergeable` tells which ids may come out of text (control tokens must not).
    pub fn by_scores(pieces: Pieces, scores: &[f32], mergeable: impl Fn(u32) -> bool, options: MergeOptions) -> Self {
        let limit = pieces.id_limit();
        let order = (0..limit).map(|id| match scores.get(id as usize) {
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
        MergeModel { pieces, rule, options, bytes }
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
        let mut symbols = Vec::with_capacity(word.len());
        match self.rule {
            Rule::Ranks(_) => self.split_known(word, &mut symbols),
            Rule::Scores(_) => self.split_characters(word, &mut symbols),
        }
        self.merge(word, &mut symbols);
        let mut fusing = false;
        for symbol in symbols.iter().filter(|symbol| symbol.len != 0) {
            if symbol.id != NONE {
                fusing = false;
                emit(symbol.id);
            } else {
                self.emit_unknown(&word[symbol.start as usize..][..symbol.len as usize], &mut fusing, &mut emit);
            }
        }
        Ok(())
    }

    /// Ranks name ids, so every symbol has one from the start: a character, its bytes, or `unk`.
    fn split_known(&self, word: &str, symbols: &mut Vec<Symbol>) {
        let mut fusing = false;
        for (start, character) in word.char_indices() {
            let text = &word.as_bytes()[start..start + character.len_utf8()];
            let start = start as u32;
            let len = text.len() as u32;
            if let Some(id) = self.pieces.id(text) {
                push(symbols, start, len, id);
            } else if text.iter().all(|&byte| self.bytes[byte as usize] != NONE) {
                for (i, &byte) in text.iter().enumerate() {
                    push(symbols, start + i as u32, 1, self.bytes[byte as usize]);
                }
            } else if let Some(unk) = self.options.unk {
                match symbols.last_mut() {
                    Some(last) if fusing && self.options.fuse_unk => last.len += len,
                    _ => push(symbols, start, len, unk),
                }
                fusing = true;
                continue;
            }
            fusing = false;
        }
    }

    /// Scores name strings, so a character that is no piece may still be part of one.
    fn split_characters(&self, word: &str, symbols: &mut Vec<Symbol>) {
        for (start, character) in word.char_indices() {
            let text = &word.as_bytes()[start..start + character.len_utf8()];
            let id = self.pieces.id(text).filter(|&id| self.order(id) != NONE);
            push(symbols, start as u32, text.len() as u32, id.unwrap_or(NONE));
        }
    }

    fn emit_unknown(&self, text: &str, fusing: &mut bool, emit: &mut impl FnMut(u32)) {
        if text.bytes().all(|byte| self.bytes[byte as usize] != NONE) {
            text.bytes().for_each(|byte| emit(self.bytes[byte as usize]));
            *fusing = false;
        } else if let Some(unk) = self.options.unk {
            if !(*fusing && self.options.fuse_unk) {
                emit(unk);
            }
            *fusing = true;
        }
    }

    fn merge(&self, word: &str, symbols: &mut [Symbol]) {
        let mut queue: BinaryHeap<Candidate> = BinaryHeap::with_capacity(symbols.len());
        let add = |queue: &mut BinaryHeap<Candidate>, symbols: &[Symbol], left: u32, right: u32| {
            if let Some((rank, id)) = self.merged(word, &symbols[left as usize], &symbols[right as usize]) {
                queue.push(Reverse((rank, left, id)));
            }
        };
        for right in 1..symbols.len() as u32 {
            add(&mut queue, symbols, right - 1, right);
        }
        while let Some(Reverse((_, left, id))) = queue.pop() {
            let current = symbols[left as usize];
            if current.len == 0 || current.next == NONE {
                continue;
            }
            let right = symbols[current.next as usize];
            // A candidate is out of date when one of its sides has merged since it was queued.
            if !matches!(self.merged(word, &current, &right), Some((_, merged)) if merged == id) {
                continue;
            }
            symbols[current.next as usize].len = 0;
            let merged = &mut symbols[left as usize];
            merged.len += right.len;
            merged.next = right.next;
            merged.id = id;
            if right.next != NONE {
                symbols[right.next as usize].prev = left;
                add(&mut queue, symbols, left, right.next);
            }
            if current.prev != NONE {
                add(&mut queue, symbols, current.prev, left);
            }
        }
    }

    /// The rank of merging two neighbours and the id that results.
    fn merged(&self, word: &str, left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        match &self.rule {
            Rule::Ranks(ranks) => ranks.get(&pair_key(left.id, right.id)).copied(),
            Rule::Scores(order) => {
                let text = &word.as_bytes()[left.start as usize..(right.start + right.len) as usize];
                let id = self.pieces.id(text)?;
                let rank = order[id as usize];
                (rank != NONE).then_some((rank, id))
            }
        }
    }

    fn order(&self, id: u32) -> u32 {
        match &self.rule {
            Rule::Ranks(_) => 0,
            Rule::Scores(order) => order[id as usize],
        }
    }
}

fn push(symbols: &mut Vec<Symbol>, start: u32, len: u32, id: u32) {
    let index = symbols.len() as u32;
    let prev = index.checked_sub(1).unwrap_or(NONE);
    if let Some(last) = symbols.last_mut() {
        last.next = index;
    }
    symbols.push(Symbol { start, len, id, prev, next: NONE });
}

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
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
        let pieces = vocabulary(&["a", "b", "c", "ab", "bc", "aa"]);
        let merges = [("b", "c"), ("a", "b"), ("a", "a")].map(|(l, r)| (l.as_bytes(), r.as_bytes()));
        let model = MergeModel::by_ranks(pieces, merges.into_iter(), true, MergeOptions::default()).unwrap();
        assert_eq!(ids(&model, "abc"), [0, 4]);
        assert_eq!(ids(&model, "aaa"), [5, 0]);
        assert_eq!(ids(&model, "axb"), [3]); // without unk the unknown character is dropped before merging
    }

    #[test]
    fn the_highest_score_merges_first() {
        let pieces = vocabulary(&["a", "b", "c", "ab", "bc"]);
        let model = MergeModel::by_scores(pieces, &[0.0, 0.0, 0.0, -2.0, -1.0], |_| true, MergeOptions::default());
        assert_eq!(ids(&model, "abc"), [0, 4]);
    }

    #[test]
    fn control_tokens_never_come_out_of_text() {
        let pieces = vocabulary(&["<", "s", ">", "<s", "<s>"]);
        let options = MergeOptions::default();
        let model = MergeModel::by_scores(pieces, &[-5.0, -4.0, -3.0, -2.0, 0.0], |id| id != 4, options);
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
        let model = MergeModel::by_ranks(vocabulary(&texts), [].into_iter(), true, fallback()).unwrap();
        assert_eq!(ids(&model, "éa"), [0xC3, 0xA9, 256]);

        let unk = || MergeOptions { unk: Some(0), fuse_unk: true, ..Default::default() };
        let model = MergeModel::by_ranks(vocabulary(&["?", "a"]), [].into_iter(), true, unk()).unwrap();
        assert_eq!(ids(&model, "éüaé"), [0, 1, 0]);
        let model = MergeModel::by_scores(vocabulary(&["?", "a"]), &[0.0, 0.0], |id| id == 1, unk());
        assert_eq!(ids(&model, "éüaé"), [0, 1, 0]);
    }

    #[test]
    fn a_merge_outside_the_vocabulary_is_an_error_only_if_strict() {
        let merges = || [(&b"a"[..], &b"x"[..])].into_iter();
        let error = MergeModel::by_ranks(vocabulary(&["a"]), merges(), true, MergeOptions::default()).err();
        assert!(error.unwrap().contains("`a` and `x`"));
        assert!(MergeModel::by_ranks(vocabulary(&["a"]), merges(), false, MergeOptions::default()).is_ok());
    }
}
