//! Builds tokenizers from a Hugging Face tokenizer.json and from the arrays of a GGUF file.

use crate::merge::{MergeModel, MergeOptions, Merges};
use crate::pieces::Pieces;
use crate::tokenizer::{surroundings, AnyModel, Parts, Result, Tokenizer};
use ahash::{AHashMap, AHashSet};
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::{Precompiled, Sequence};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

/// What tokenizer_config.json adds to tokenizer.json.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct FolderOptions {
    /// Tokens of "added_tokens_decoder", by ascending id.
    added: Vec<AddedToken>,
    /// Contents that are special whatever tokenizer.json says.
    special: Vec<String>,
    bos: Option<String>,
    eos: Option<String>,
    /// "add_bos_token" and "add_eos_token"; absent: what the post-processor does.
    add_bos: Option<bool>,
    add_eos: Option<bool>,
}

#[derive(Deserialize)]
struct TokenizerFile<M> {
    model: M,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
}

/// A tokenizer from the text of tokenizer.json.
pub fn from_json(text: &str, options: FolderOptions) -> Result<Tokenizer> {
    let file: TokenizerFile<PlainBpe> = match serde_json::from_str(text) {
        Ok(file) => file,
        Err(error) if error.to_string().contains(NOT_PLAIN) => {
            let file: TokenizerFile<ModelWrapper> = serde_json::from_str(text).map_err(|e| e.to_string())?;
            return assemble(file, AnyModel::from, options);
        }
        Err(error) => return Err(error.to_string()),
    };
    assemble(file, |bpe| AnyModel::Merge(bpe.build()), options)
}

fn assemble<M>(file: TokenizerFile<M>, model: impl FnOnce(M) -> AnyModel, options: FolderOptions) -> Result<Tokenizer> {
    let mut added = file.added_tokens;
    let special: AHashSet<String> = options.special.iter().cloned().collect();
    let mut known: AHashSet<String> = added.iter().map(|token| token.content.clone()).collect();
    let named = options.special.into_iter().map(|content| AddedToken::from(content, true));
    for token in options.added.into_iter().chain(named) {
        if known.insert(token.content.clone()) {
            added.push(token);
        }
    }
    for token in &mut added {
        token.special |= special.contains(&token.content);
    }
    let (prefix, suffix) = match &file.post_processor {
        Some(processor) => surroundings(processor)?,
        None => Default::default(),
    };
    let mut tokenizer = Tokenizer::new(Parts {
        model: model(file.model),
        normalizer: file.normalizer,
        pre_tokenizer: file.pre_tokenizer,
        decoder: file.decoder,
        added,
        prefix,
        suffix,
    })?;
    tokenizer.override_surroundings(
        options.add_bos.zip(options.bos.and_then(|text| tokenizer.id(&text))),
        options.add_eos.zip(options.eos.and_then(|text| tokenizer.id(&text))),
    );
    Ok(tokenizer)
}

/// In the message of the error that PlainBpe gives for a model that is another one.
const NOT_PLAIN: &str = "not a plain BPE model";

/// Values of "type" in a model.
const KINDS: [&str; 4] = ["BPE", "Unigram", "WordLevel", "WordPiece"];

/// A BPE model without the options that MergeModel lacks, whose "type" comes first, as it does in files written by the
/// library.
#[derive(Default)]
struct PlainBpe {
    pieces: Option<Pieces>,
    merges: Option<Merges>,
    unk_token: Option<String>,
    options: MergeOptions,
}

impl PlainBpe {
    fn build(self) -> MergeModel {
        let pieces = self.pieces.unwrap_or_else(|| Pieces::with_capacity(0, 0));
        let merges = self.merges.unwrap_or_default();
        let unk = self.unk_token.and_then(|text| pieces.id(text.as_bytes()));
        MergeModel::by_ranks(pieces, merges, MergeOptions { unk, ..self.options })
    }
}

impl<'de> Deserialize<'de> for PlainBpe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ModelVisitor;
        impl<'de> Visitor<'de> for ModelVisitor {
            type Value = PlainBpe;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a tokenizer model")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<PlainBpe, A::Error> {
                let mut bpe = PlainBpe::default();
                let mut plain = false;
                while let Some(key) = map.next_key::<JsonText>()? {
                    let flag = |value: Option<bool>| value.unwrap_or(false);
                    match key.0.as_ref() {
                        "type" => {
                            let kind = map.next_value::<JsonText>()?.0;
                            if !KINDS.contains(&kind.as_ref()) {
                                let message = format!("the model type `{kind}` is not one of {}", KINDS.join(", "));
                                return Err(A::Error::custom(message));
                            }
                            plain = kind == "BPE";
                        }
                        "vocab" if plain => bpe.pieces = Some(map.next_value::<PieceMap>()?.0),
                        "merges" if plain => bpe.merges = Some(map.next_value::<MergeList>()?.0),
                        "unk_token" => bpe.unk_token = map.next_value()?,
                        "fuse_unk" => bpe.options.fuse_unk = flag(map.next_value()?),
                        "byte_fallback" => bpe.options.byte_fallback = flag(map.next_value()?),
                        "ignore_merges" => bpe.options.ignore_merges = flag(map.next_value()?),
                        "continuing_subword_prefix" | "end_of_word_suffix" => {
                            plain &= map.next_value::<Option<String>>()?.unwrap_or_default().is_empty();
                        }
                        "dropout" => plain &= map.next_value::<Option<f32>>()?.unwrap_or(0.0) == 0.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                    if !plain {
                        return Err(A::Error::custom(NOT_PLAIN));
                    }
                }
                if bpe.pieces.is_none() || bpe.merges.is_none() {
                    return Err(A::Error::custom("the model needs \"vocab\" and \"merges\""));
                }
                Ok(bpe)
            }
        }
        deserializer.deserialize_map(ModelVisitor)
    }
}

/// A string of the JSON text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct JsonText<'a>(#[serde(borrow)] Cow<'a, str>);

/// The object {"piece": id, ...}.
struct PieceMap(Pieces);

impl<'de> Deserialize<'de> for PieceMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PieceVisitor;
        impl<'de> Visitor<'de> for PieceVisitor {
            type Value = PieceMap;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tokens and ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<PieceMap, A::Error> {
                let mut pieces = Pieces::with_capacity(1 << 15, 1 << 19);
                while let Some((text, id)) = map.next_entry::<JsonText, u32>()? {
                    pieces.insert(text.0.as_bytes(), id).map_err(A::Error::custom)?;
                }
                Ok(PieceMap(pieces))
            }
        }
        deserializer.deserialize_map(PieceVisitor)
    }
}

/// The array of merges.
struct MergeList(Merges);

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = MergeList;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<MergeList, A::Error> {
                let mut merges = Merges::default();
                while let Some(MergePair(left, right)) = seq.next_element()? {
                    merges.add(left.as_bytes(), right.as_bytes()).map_err(A::Error::custom)?;
                }
                Ok(MergeList(merges))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

/// One merge: "left right", or ["left", "right"] in newer files.
struct MergePair<'a>(Cow<'a, str>, Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for MergePair<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PairVisitor;
        impl<'de> Visitor<'de> for PairVisitor {
            type Value = MergePair<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge such as \"a b\" or [\"a\", \"b\"]")
            }
            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
                match split_merge(text) {
                    Some((left, right)) => Ok(MergePair(Cow::Borrowed(left), Cow::Borrowed(right))),
                    None => Err(E::custom(format!("`{text}` is not a merge of two tokens"))),
                }
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
                match split_merge(text) {
                    Some((left, right)) => Ok(MergePair(left.to_string().into(), right.to_string().into())),
                    None => Err(E::custom(format!("`{text}` is not a merge of two tokens"))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
                let left: Option<JsonText> = seq.next_element()?;
                let right: Option<JsonText> = seq.next_element()?;
                match (left, right) {
                    (Some(left), Some(right)) => Ok(MergePair(left.0, right.0)),
                    _ => Err(A::Error::custom("a merge has two tokens")),
                }
            }
        }
        deserializer.deserialize_any(PairVisitor)
    }
}

/// Splits "left right" at its only space.
fn split_merge(text: &str) -> Option<(&str, &str)> {
    text.split_once(' ').filter(|(_, right)| !right.contains(' '))
}

/// How the arrays of a GGUF file become a tokenizer; written by the C++ side.
#[derive(Deserialize)]
pub struct VocabOptions {
    /// "ranks", "scores", "wordpiece" or "unigram".
    model: String,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<DecoderWrapper>,
    unk: Option<u32>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    prefix: Vec<u32>,
    #[serde(default)]
    suffix: Vec<u32>,
    #[serde(default)]
    added: Vec<AddedId>,
}

/// A token of the vocabulary that is matched in the text before the model sees it.
#[derive(Deserialize)]
struct AddedId {
    id: u32,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

/// The arrays of a GGUF file. `mergeable` tells which tokens may come out of ordinary text.
pub struct VocabArrays<'a> {
    pub tokens: Vec<&'a [u8]>,
    pub scores: &'a [f32],
    pub mergeable: &'a [u8],
    pub merges: Vec<&'a [u8]>,
    pub charsmap: &'a [u8],
}

/// A tokenizer from GGUF arrays.
pub fn from_vocab(arrays: &VocabArrays, options: VocabOptions) -> Result<Tokenizer> {
    let added = options.added.iter().map(|token| added_token(arrays, token)).collect::<Result<Vec<_>>>()?;
    let mut normalizer = options.normalizer.clone();
    if !arrays.charsmap.is_empty() {
        let charsmap = Precompiled::from(arrays.charsmap).map_err(|e| format!("the character map is broken: {e}"))?;
        let mut steps = vec![NormalizerWrapper::Precompiled(charsmap)];
        steps.extend(normalizer);
        normalizer = Some(NormalizerWrapper::Sequence(Sequence::new(steps)));
    }
    Tokenizer::new(Parts {
        model: model_from_arrays(arrays, &options)?,
        normalizer,
        pre_tokenizer: options.pre_tokenizer,
        decoder: options.decoder,
        added,
        prefix: options.prefix,
        suffix: options.suffix,
    })
}

fn added_token(arrays: &VocabArrays, token: &AddedId) -> Result<AddedToken> {
    let text = arrays.tokens.get(token.id as usize).ok_or_else(|| format!("token {} is out of range", token.id))?;
    let text = std::str::from_utf8(text).map_err(|_| format!("special token {} is not valid UTF-8", token.id))?;
    let added = AddedToken::from(text, token.special);
    Ok(added.normalized(false).lstrip(token.lstrip).rstrip(token.rstrip))
}

fn model_from_arrays(arrays: &VocabArrays, options: &VocabOptions) -> Result<AnyModel> {
    match options.model.as_str() {
        "ranks" | "scores" => merge_model(arrays, options).map(AnyModel::Merge),
        "wordpiece" => {
            let mut vocab = AHashMap::with_capacity(arrays.tokens.len());
            for (id, text) in arrays.tokens.iter().enumerate() {
                vocab.insert(utf8(id, text)?, id as u32);
            }
            let unk = options.unk.and_then(|id| arrays.tokens.get(id as usize)).copied().unwrap_or(b"[UNK]");
            let builder = WordPiece::builder().vocab(vocab).unk_token(utf8(0, unk)?);
            let model: ModelWrapper = builder.build().map_err(|e| e.to_string())?.into();
            Ok(model.into())
        }
        "unigram" => unigram(arrays, options),
        other => Err(format!("there is no vocabulary model `{other}`")),
    }
}

fn unigram(arrays: &VocabArrays, options: &VocabOptions) -> Result<AnyModel> {
    let mut vocab = Vec::with_capacity(arrays.tokens.len());
    let mut hidden = AHashMap::new();
    for (id, text) in arrays.tokens.iter().enumerate() {
        let mut text = utf8(id, text)?;
        let is_byte = options.byte_fallback && text.len() == 6 && text.starts_with("<0x");
        if arrays.mergeable.get(id) == Some(&0) && !is_byte {
            hidden.insert(text, id as u32);
            text = format!("{id}\u{2581}"); // words have this character at their beginning only
        }
        vocab.push((text, f64::from(arrays.scores.get(id).copied().unwrap_or(0.0))));
    }
    let model = Unigram::from(vocab, options.unk.map(|id| id as usize), options.byte_fallback);
    Ok(AnyModel::Library { model: model.map_err(|e| e.to_string())?.into(), hidden })
}

fn merge_model(arrays: &VocabArrays, options: &VocabOptions) -> Result<MergeModel> {
    let bytes = arrays.tokens.iter().map(|text| text.len()).sum();
    let mut pieces = Pieces::with_capacity(arrays.tokens.len(), bytes);
    for (id, text) in arrays.tokens.iter().enumerate() {
        pieces.insert(text, id as u32)?;
    }
    let merge_options = MergeOptions {
        unk: options.unk,
        fuse_unk: options.fuse_unk,
        byte_fallback: options.byte_fallback,
        ignore_merges: options.ignore_merges,
    };
    if options.model == "scores" {
        let mergeable = |id: u32| arrays.mergeable.get(id as usize).is_some_and(|&flag| flag != 0);
        return Ok(MergeModel::by_scores(pieces, arrays.scores, mergeable, merge_options));
    }
    // A token may begin with a space but not contain one elsewhere.
    let mut merges = Merges::with_capacity(arrays.merges.len());
    for merge in &arrays.merges {
        let space = merge.iter().skip(1).position(|&byte| byte == b' ').map_or(merge.len(), |at| at + 1);
        merges.add(&merge[..space], merge.get(space + 1..).unwrap_or_default())?;
    }
    Ok(MergeModel::by_ranks(pieces, merges, merge_options))
}

fn utf8(id: usize, text: &[u8]) -> Result<String> {
    std::str::from_utf8(text).map(str::to_string).map_err(|_| format!("token {id} is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = r#"{
        "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "decoder": {"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": true}, "post_processor": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": MERGES}}"#;

    fn tiny(merges: &str) -> Result<Tokenizer> {
        from_json(&TINY.replace("MERGES", merges), FolderOptions::default())
    }

    #[test]
    fn reads_both_spellings_of_merges() {
        for merges in [r#"["a b"]"#, r#"[["a", "b"]]"#, r#"["a\u0020b"]"#] {
            assert_eq!(tiny(merges).unwrap().encode("ab<s>a", false, true).unwrap(), [2, 3, 0]);
        }
    }

    #[test]
    fn models_that_are_not_plain_bpe_are_the_librarys() {
        let suffixed = TINY.replace("\"type\": \"BPE\"", "\"type\": \"BPE\", \"end_of_word_suffix\": \"b\"");
        let tokenizer = from_json(&suffixed.replace("MERGES", "[]"), FolderOptions::default()).unwrap();
        assert_eq!(tokenizer.encode("aa", false, true).unwrap(), [0, 2]);
    }

    #[test]
    fn special_tokens_can_be_plain_text() {
        let tokenizer = tiny("[]").unwrap();
        assert_eq!(tokenizer.encode("a<s>b", false, false).unwrap(), [0, 1]);
        assert_eq!(tokenizer.special_ids(), [3]);
    }

    #[test]
    fn broken_files_say_what_is_wrong() {
        assert!(tiny(r#"["a b c"]"#).err().unwrap().contains("`a b c` is not a merge"));
        assert!(from_json("{}", FolderOptions::default()).err().unwrap().contains("model"));
        let error = from_json(r#"{"model": {"type": "BPE", "vocab": {}}}"#, FolderOptions::default()).err();
        assert!(error.unwrap().contains("merges"));
        let error = from_json(r#"{"model": {"type": "Turing"}}"#, FolderOptions::default()).err();
        assert!(!error.unwrap().contains(NOT_PLAIN));
    }

    #[test]
    fn options_decide_about_begin_and_end_tokens() {
        let options = FolderOptions { bos: Some("<s>".into()), add_bos: Some(true), ..Default::default() };
        let tokenizer = from_json(&TINY.replace("MERGES", "[]"), options).unwrap();
        assert_eq!(tokenizer.encode("a", true, true).unwrap(), [3, 0]);
        assert_eq!(tokenizer.encode("a", false, true).unwrap(), [0]);
    }
}
