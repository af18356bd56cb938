//! The C border of the text crates; the contract is include/baize_text.h.

pub mod load;
pub mod merge;
pub mod pieces;
pub mod python_json;
pub mod template;
pub mod tokenizer;

use load::{FolderOptions, VocabArrays, VocabOptions};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Once};
use template::{ChatTemplate, Failure, Input};
use tokenizer::Tokenizer;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut i32,
    size: usize,
}

#[repr(C)]
pub struct Vocab {
    tokens: *const View,
    n_tokens: usize,
    scores: *const f32,
    n_scores: usize,
    mergeable: *const u8,
    n_mergeable: usize,
    merges: *const View,
    n_merges: usize,
    charsmap: View,
}

#[repr(C)]
pub struct Info {
    id_limit: i32,
    special: Ids,
    prefix: Ids,
    suffix: Ids,
}

#[repr(C)]
pub struct TemplateInput {
    messages: View,
    tools: View,
    variables: View,
    add_generation_prompt: bool,
    format_time: extern "C" fn(*mut std::ffi::c_void, View, *mut u8, usize) -> usize,
    context: *mut std::ffi::c_void,
}

#[repr(C)]
#[derive(Debug, PartialEq)]
pub enum Status {
    Ok = 0,
    Bad = 1,
    Refused = 2,
    Panic = 3,
}

impl View {
    /// # Safety
    /// `data` points to `size` readable bytes that outlive the result.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        slice(self.data, self.size)
    }

    /// # Safety
    /// As `bytes`.
    unsafe fn text<'a>(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()).map_err(|e| format!("it is not valid UTF-8 at byte {}", e.valid_up_to()))
    }
}

/// # Safety
/// `data` points to `size` readable elements that outlive the result, or `size` is 0.
unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let bytes = Box::leak(bytes.into_boxed_slice());
        Buffer { data: bytes.as_mut_ptr(), size: bytes.len() }
    }
}

impl From<Vec<i32>> for Ids {
    fn from(ids: Vec<i32>) -> Self {
        let ids = Box::leak(ids.into_boxed_slice());
        Ids { data: ids.as_mut_ptr(), size: ids.len() }
    }
}

/// Runs `work`, storing what it returns in `out`, or a message in `error`. Panics become messages too.
///
/// # Safety
/// `out` and `error` are writable.
unsafe fn guarded<T>(out: *mut T, error: *mut Buffer, work: impl FnOnce() -> Result<T, (Status, String)>) -> Status {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let (status, message) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => {
            out.write(value);
            return Status::Ok;
        }
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown cause");
            (Status::Panic, format!("the text library failed: {text}"))
        }
    };
    error.write(message.into_bytes().into());
    status
}

fn bad(message: String) -> (Status, String) {
    (Status::Bad, message)
}

fn options<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, (Status, String)> {
    serde_json::from_str(text).map_err(|e| bad(format!("its options do not parse: {e}")))
}

/// # Safety
/// `buffer` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn baize_text_buffer_free(buffer: Buffer) {
    if !buffer.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(buffer.data, buffer.size)));
    }
}

/// # Safety
/// `ids` came from this library and are freed once.
#[no_mangle]
pub unsafe extern "C" fn baize_text_ids_free(ids: Ids) {
    if !ids.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids.data, ids.size)));
    }
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_from_json(
    json: View,
    options_json: View,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let folder: FolderOptions = options(options_json.text().map_err(bad)?)?;
        let tokenizer = load::from_json(json.text().map_err(bad)?, folder).map_err(bad)?;
        Ok(Box::into_raw(Box::new(tokenizer)))
    })
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_from_vocab(
    vocab: *const Vocab,
    options_json: View,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let vocab = &*vocab;
        let options: VocabOptions = options(options_json.text().map_err(bad)?)?;
        let arrays = VocabArrays {
            tokens: slice(vocab.tokens, vocab.n_tokens).iter().map(|view| view.bytes()).collect(),
            scores: slice(vocab.scores, vocab.n_scores),
            mergeable: slice(vocab.mergeable, vocab.n_mergeable),
            merges: slice(vocab.merges, vocab.n_merges).iter().map(|view| view.bytes()).collect(),
            charsmap: vocab.charsmap.bytes(),
        };
        Ok(Box::into_raw(Box::new(load::from_vocab(&arrays, options).map_err(bad)?)))
    })
}

/// # Safety
/// `tokenizer` came from this library and is freed once; null is ignored.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: View,
    add_special: bool,
    parse_special: bool,
    out: *mut Ids,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let text = text.text().map_err(bad)?;
        Ok((*tokenizer).encode(text, add_special, parse_special).map_err(bad)?.into())
    })
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_piece(
    tokenizer: *const Tokenizer,
    id: i32,
    first: bool,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || Ok((*tokenizer).piece(id as u32, first).map_err(bad)?.into()))
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_token(
    tokenizer: *const Tokenizer,
    id: i32,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || Ok((*tokenizer).text(id as u32).unwrap_or_default().into()))
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_id(
    tokenizer: *const Tokenizer,
    token: View,
    out: *mut i32,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let id = token.text().ok().and_then(|token| (*tokenizer).id(token));
        Ok(id.map_or(-1, |id| id as i32))
    })
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_tokenizer_describe(
    tokenizer: *const Tokenizer,
    out: *mut Info,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let tokenizer = &*tokenizer;
        let ids = |ids: &[u32]| ids.iter().map(|&id| id as i32).collect::<Vec<i32>>().into();
        Ok(Info {
            id_limit: tokenizer.id_limit() as i32,
            special: tokenizer.special_ids().into(),
            prefix: ids(tokenizer.prefix()),
            suffix: ids(tokenizer.suffix()),
        })
    })
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_template_new(
    source: View,
    constants: View,
    out: *mut *mut ChatTemplate,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let template = ChatTemplate::new(source.text().map_err(bad)?, constants.text().map_err(bad)?);
        Ok(Box::into_raw(Box::new(template.map_err(failure)?)))
    })
}

/// # Safety
/// `template` came from this library and is freed once; null is ignored.
#[no_mangle]
pub unsafe extern "C" fn baize_template_free(template: *mut ChatTemplate) {
    if !template.is_null() {
        drop(Box::from_raw(template));
    }
}

/// # Safety
/// As the header says.
#[no_mangle]
pub unsafe extern "C" fn baize_template_render(
    template: *const ChatTemplate,
    input: *const TemplateInput,
    out: *mut Buffer,
    error: *mut Buffer,
) -> Status {
    guarded(out, error, || {
        let input = &*input;
        let text = |what: &str, view: View| view.text().map_err(|e| bad(format!("{what}: {e}")));
        let clock = Callback { format_time: input.format_time, context: input.context };
        let rendered = (*template).render(
            &Input {
                messages: text("the messages", input.messages)?,
                tools: text("the tools", input.tools)?,
                variables: text("the template variables", input.variables)?,
                add_generation_prompt: input.add_generation_prompt,
            },
            Arc::new(move |format| clock.format(format)),
        );
        Ok(rendered.map_err(failure)?.into_bytes().into())
    })
}

fn failure(failure: Failure) -> (Status, String) {
    match failure {
        Failure::Raised(message) => (Status::Refused, message),
        Failure::Syntax(message) | Failure::Render(message) => (Status::Bad, message),
    }
}

/// The caller's clock. It is used only while the caller waits in baize_template_render, by the same thread.
struct Callback {
    format_time: extern "C" fn(*mut std::ffi::c_void, View, *mut u8, usize) -> usize,
    context: *mut std::ffi::c_void,
}

unsafe impl Send for Callback {}
unsafe impl Sync for Callback {}

impl Callback {
    fn format(&self, format: &str) -> Option<String> {
        let mut text = vec![0; 512];
        let view = View { data: format.as_ptr(), size: format.len() };
        let size = (self.format_time)(self.context, view, text.as_mut_ptr(), text.len());
        text.truncate((size <= text.len()).then_some(size)?);
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_message() {
        let (mut out, mut error) = (0, Buffer { data: std::ptr::null_mut(), size: 0 });
        let status = unsafe { guarded(&mut out, &mut error, || panic!("index {} is out of range", 7)) };
        assert_eq!(status, Status::Panic);
        let message = unsafe { String::from_utf8_lossy(slice(error.data, error.size)).into_owned() };
        assert_eq!(message, "the text library failed: index 7 is out of range");
        unsafe { baize_text_buffer_free(error) };
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let view = View { data: b"ab\xFF".as_ptr(), size: 3 };
        assert_eq!(unsafe { view.text() }, Err("it is not valid UTF-8 at byte 2".to_string()));
    }
}
