//! A tokenizer: the `tokenizers` crate's normalizers, pre-tokenizers, added tokens, post-processors and decoders around
//! either this crate's merging model or one of that crate's models.

use crate::merge::MergeModel;
use ahash::{AHashMap, AHashSet};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::tokenizer::pre_tokenizer::OffsetType;
use tokenizers::{
    AddedToken, AddedVocabulary, Decoder, DecoderWrapper, Encoding, Model, NormalizerWrapper, PostProcessor,
    PostProcessorWrapper, PreTokenizer, PreTokenizerWrapper, Token,
};

pub type Result<T> = std::result::Result<T, String>;

/// The model between pre-tokenizer and post-processor.
pub enum AnyModel {
    Merge(MergeModel),
    /// `hidden`: tokens that the model must not find in ordinary text, which it knows by another spelling.
    Library {
        model: ModelWrapper,
        hidden: AHashMap<String, u32>,
    },
}

impl From<ModelWrapper> for AnyModel {
    fn from(model: ModelWrapper) -> Self {
        AnyModel::Library { model, hidden: AHashMap::new() }
    }
}

impl AnyModel {
    /// The string of `id` as the vocabulary spells it.
    fn text(&self, id: u32) -> Option<Vec<u8>> {
        match self {
            AnyModel::Merge(model) => model.pieces().text(id).map(<[u8]>::to_vec),
            AnyModel::Library { model, .. } => model.id_to_token(id).map(String::into_bytes),
        }
    }

    /// One past the highest id.
    fn id_limit(&self) -> u32 {
        match self {
            AnyModel::Merge(model) => model.pieces().id_limit(),
            AnyModel::Library { model, .. } => model.get_vocab().into_values().max().map_or(0, |id| id + 1),
        }
    }
}

/// What the crate's added vocabulary and pre-tokenized strings ask of a model.
impl Model for AnyModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        match self {
            AnyModel::Merge(model) => {
                let mut tokens = Vec::with_capacity(sequence.len() / 4 + 1);
                model.tokenize(sequence, |id| tokens.push(Token::new(id, String::new(), (0, 0))))?;
                Ok(tokens)
            }
            AnyModel::Library { model, .. } => model.tokenize(sequence),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            AnyModel::Merge(model) => model.pieces().id(token.as_bytes()),
            AnyModel::Library { model, hidden } => hidden.get(token).copied().or_else(|| model.token_to_id(token)),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.text(id).map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        (0..self.id_limit()).filter_map(|id| Some((self.id_to_token(id)?, id))).collect()
    }

    fn get_vocab_size(&self) -> usize {
        match self {
            AnyModel::Merge(model) => model.pieces().len(),
            AnyModel::Library { model, .. } => model.get_vocab_size(),
        }
    }

    fn save(&self, _folder: &Path, _name: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a tokenizer of this program is read-only".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match self {
            AnyModel::Merge(_) => tokenizers::models::bpe::BpeTrainer::default().into(),
            AnyModel::Library { model, .. } => model.get_trainer(),
        }
    }
}

/// How token strings become text.
enum Decoding {
    /// Every character of a token stands for one byte (GPT-2's table).
    ByteLevel(Box<HashMap<char, u8, ahash::RandomState>>),
    /// The crate's decoder; `byte_fallback` tells whether `<0x41>` is the byte 0x41.
    Library { decoder: DecoderWrapper, byte_fallback: bool },
    /// No decoder: tokens are words.
    Words,
}

/// Everything a tokenizer is made of.
pub struct Parts {
    pub model: AnyModel,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    pub decoder: Option<DecoderWrapper>,
    /// Matched in the text before the model sees it, in order of id assignment.
    pub added: Vec<AddedToken>,
    /// Put around the text when special tokens are asked for.
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
}

/// Immutable; any number of threads may use one.
pub struct Tokenizer {
    model: AnyModel,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoding: Decoding,
    /// Finds special tokens in the text.
    added: AddedVocabulary,
    /// Takes special tokens in the text for ordinary text.
    added_plain: AddedVocabulary,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    id_limit: u32,
}

impl Tokenizer {
    pub fn new(parts: Parts) -> Result<Self> {
        let mut added = AddedVocabulary::new();
        added.add_tokens(parts.added, &parts.model, parts.normalizer.as_ref()).map_err(|e| e.to_string())?;
        let mut added_plain = added.clone();
        added_plain.set_encode_special_tokens(true);
        let id_limit = added.get_added_tokens_decoder().keys().map(|&id| id + 1).max().unwrap_or(0);
        Ok(Tokenizer {
            id_limit: id_limit.max(parts.model.id_limit()),
            decoding: decoding(parts.decoder),
            model: parts.model,
            normalizer: parts.normalizer,
            pre_tokenizer: parts.pre_tokenizer,
            added,
            added_plain,
            prefix: parts.prefix,
            suffix: parts.suffix,
        })
    }

    /// The ids of `text`; `add_special` puts the prefix and suffix around them, `parse_special` finds special tokens
    /// spelt out in the text.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>> {
        let added = if parse_special { &self.added } else { &self.added_plain };
        let mut pieces = added.extract_and_normalize(self.normalizer.as_ref(), text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(|e| e.to_string())?;
        }
        self.model.tokenize_in_pretokenized(&mut pieces, None).map_err(|e| e.to_string())?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None).map_err(|e| e.to_string())?;
        let (prefix, suffix) = if add_special { (&self.prefix[..], &self.suffix[..]) } else { Default::default() };
        Ok([prefix, encoding.get_ids(), suffix].into_iter().flatten().map(|&id| id as i32).collect())
    }

    /// The bytes that `id` adds to the text; `first` if it begins the text (some vocabularies drop a space there).
    /// An id without a token adds nothing.
    pub fn piece(&self, id: u32, first: bool) -> Result<Vec<u8>> {
        let added = self.added.get_added_tokens_decoder().get(&id);
        let Some(text) = self.added.simple_id_to_token(id).or_else(|| self.model.id_to_token(id)) else {
            return Ok(Vec::new());
        };
        match &self.decoding {
            Decoding::ByteLevel(bytes) => Ok(match added {
                Some(token) => token.content.clone().into_bytes(),
                None => match text.chars().map(|c| bytes.get(&c).copied()).collect() {
                    Some(bytes) => bytes,
                    None => text.into_bytes(),
                },
            }),
            Decoding::Library { decoder, byte_fallback } => {
                if let Some(byte) = fallback_byte(&text).filter(|&byte| *byte_fallback && !(first && byte == b' ')) {
                    return Ok(vec![byte]);
                }
                decode_one(decoder, text, first).map_err(|e| e.to_string())
            }
            Decoding::Words if first => Ok(text.into_bytes()),
            Decoding::Words => Ok(format!(" {text}").into_bytes()),
        }
    }

    /// The string of `id` as the vocabulary spells it.
    pub fn text(&self, id: u32) -> Option<Vec<u8>> {
        match self.added.get_added_tokens_decoder().get(&id) {
            Some(token) => Some(token.content.clone().into_bytes()),
            None => self.model.text(id),
        }
    }

    /// The id of a token that the vocabulary spells `text`.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.added.token_to_id(text, &self.model)
    }

    /// One past the highest id.
    pub fn id_limit(&self) -> u32 {
        self.id_limit
    }

    /// Ids of the special tokens, ascending.
    pub fn special_ids(&self) -> Vec<i32> {
        let added = self.added.get_added_tokens_decoder().iter();
        let mut ids: Vec<i32> = added.filter(|(_, token)| token.special).map(|(&id, _)| id as i32).collect();
        ids.sort_unstable();
        ids
    }

    /// Says for the begin and end token whether they surround the text; `None` keeps what the tokenizer does.
    pub fn override_surroundings(&mut self, bos: Option<(bool, u32)>, eos: Option<(bool, u32)>) {
        if let Some((add, id)) = bos {
            self.prefix.retain(|&other| other != id);
            self.prefix.extend(add.then_some(id));
        }
        if let Some((add, id)) = eos {
            self.suffix.retain(|&other| other != id);
            self.suffix.extend(add.then_some(id));
        }
    }

    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    pub fn suffix(&self) -> &[u32] {
        &self.suffix
    }
}

/// What a post-processor puts before and after a text.
pub fn surroundings(processor: &PostProcessorWrapper) -> Result<(Vec<u32>, Vec<u32>)> {
    const TEXT: u32 = u32::MAX;
    let probe = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let processed = processor.process(probe, None, true).map_err(|e| e.to_string())?;
    let mut sides = processed.get_ids().splitn(2, |&id| id == TEXT);
    match (sides.next(), sides.next()) {
        (Some(prefix), Some(suffix)) => Ok((prefix.to_vec(), suffix.to_vec())),
        _ => Err("its post_processor drops the text".to_string()),
    }
}

fn decoding(decoder: Option<DecoderWrapper>) -> Decoding {
    let Some(decoder) = decoder else {
        return Decoding::Words;
    };
    let kinds = decoder_kinds(&decoder);
    if kinds.contains("ByteLevel") {
        return Decoding::ByteLevel(Box::new(byte_level_table()));
    }
    Decoding::Library { decoder, byte_fallback: kinds.contains("ByteFallback") }
}

/// The "type" names in a decoder, sequences included.
fn decoder_kinds(decoder: &DecoderWrapper) -> AHashSet<String> {
    fn collect(value: &serde_json::Value, kinds: &mut AHashSet<String>) {
        kinds.extend(value.get("type").and_then(|kind| kind.as_str()).map(str::to_string));
        for inner in value.get("decoders").and_then(|list| list.as_array()).into_iter().flatten() {
            collect(inner, kinds);
        }
    }
    let mut kinds = AHashSet::new();
    collect(&serde_json::to_value(decoder).unwrap_or_default(), &mut kinds);
    kinds
}

/// GPT-2's table: printable Latin-1 characters stand for themselves, the other bytes for U+0100 and up, in order.
fn byte_level_table() -> HashMap<char, u8, ahash::RandomState> {
    let mut table = HashMap::default();
    let mut next = 0x100;
    for byte in 0..=255u8 {
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            table.insert(byte as char, byte);
        } else if let Some(character) = char::from_u32(next) {
            table.insert(character, byte);
            next += 1;
        }
    }
    table
}

fn fallback_byte(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// The text that a token adds, by the decoder's own rules: alone, or behind a neutral token.
fn decode_one(decoder: &DecoderWrapper, text: String, first: bool) -> tokenizers::Result<Vec<u8>> {
    if first {
        return Ok(decoder.decode(vec![text])?.into_bytes());
    }
    const NEUTRAL: &str = "a";
    let joined = decoder.decode(vec![NEUTRAL.to_string(), text])?;
    Ok(joined.strip_prefix(NEUTRAL).unwrap_or(&joined).as_bytes().to_vec())
}
