//! Chat templates: Jinja as `transformers` runs it, on minijinja. What Python has and minijinja lacks is added here.

use crate::python_json::{dumps, Style};
use minijinja::value::{from_args, Kwargs, Tuple, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

/// Work that one rendering may do, in minijinja's unit: one instruction or about 64 bytes each.
const BASE_FUEL: u64 = 4_000_000;
/// Added for each byte of input, since long conversations need more work.
const FUEL_PER_BYTE: u64 = 4;
const NAME: &str = "chat template";

/// How a template failed, with a message that names the line.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// The source does not parse.
    Syntax(String),
    /// The template refused its input through raise_exception.
    Raised(String),
    /// Anything else while rendering: bad input, an operation that fails, too much work.
    Render(String),
}

/// Formats the current time like C's strftime; `None` if it cannot.
pub type Clock = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a template is rendered with, as JSON texts.
#[derive(Clone, Copy, Default)]
pub struct Input<'a> {
    /// An array of messages.
    pub messages: &'a str,
    /// An array of tool schemas; empty for none.
    pub tools: &'a str,
    /// An object of further variables; empty for none.
    pub variables: &'a str,
    pub add_generation_prompt: bool,
}

/// A compiled template. Immutable; any number of threads may render it.
pub struct ChatTemplate {
    env: Environment<'static>,
}

impl ChatTemplate {
    /// `constants` is a JSON object of variables that every rendering sees, such as bos_token; empty for none.
    pub fn new(source: &str, constants: &str) -> Result<Self, Failure> {
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let mut env = Environment::new();
        env.set_syntax(syntax.map_err(syntax_failure)?);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_debug(true);
        env.set_unknown_method_callback(python_method);
        env.set_formatter(|out, state, value| match value.as_str() {
            Some(text) => out.write_str(text).map_err(Error::from),
            None => out.write_str(&text_of(state, value)?).map_err(Error::from),
        });
        env.add_test("iterable", |value: &Value| !matches!(value.kind(), ValueKind::None) && value.try_iter().is_ok());
        env.add_filter("string", |state: &State, value: &Value| text_of(state, value));
        env.add_filter("indent", indent);
        env.add_filter("tojson", to_json);
        env.add_function("raise_exception", raise_exception);
        for (name, value) in pairs_of("the template constants", constants)? {
            env.add_global(name.to_string(), value);
        }
        let source = replace_generation_tags(&source.replace("\r\n", "\n"));
        env.add_template_owned(NAME, source).map_err(syntax_failure)?;
        Ok(ChatTemplate { env })
    }

    pub fn render(&self, input: &Input, clock: Clock) -> Result<String, Failure> {
        let variables = variables(input)?;
        let bytes = input.messages.len() + input.tools.len() + input.variables.len();
        let mut env = self.env.clone();
        env.set_fuel(Some(BASE_FUEL + FUEL_PER_BYTE * bytes as u64));
        env.add_function("strftime_now", move |format: &str| {
            clock(format).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, format!("the time cannot be formatted as `{format}`"))
            })
        });
        let template = env.get_template(NAME).map_err(render_failure)?;
        template.render(variables).map_err(render_failure)
    }
}

/// The variables of a template, by the names that `transformers` gives them.
fn variables(input: &Input) -> Result<Value, Failure> {
    let mut pairs = vec![(Value::from("documents"), Value::from(()))];
    pairs.extend(pairs_of("the template variables", input.variables)?);
    let tools = if input.tools.is_empty() { Value::from(()) } else { parse("the tools", input.tools)? };
    pairs.push((Value::from("messages"), parse("the messages", input.messages)?));
    pairs.push((Value::from("tools"), tools));
    pairs.push((Value::from("add_generation_prompt"), Value::from(input.add_generation_prompt)));
    Ok(Value::from_pairs(pairs))
}

fn parse(what: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|e| Failure::Render(format!("{what} are not valid JSON: {e}")))
}

/// The members of a JSON object; none for an empty text.
fn pairs_of(what: &str, text: &str) -> Result<Vec<(Value, Value)>, Failure> {
    let mut pairs = Vec::new();
    if !text.is_empty() {
        let object = parse(what, text)?;
        if object.kind() != ValueKind::Map {
            return Err(Failure::Render(format!("{what} are not a JSON object")));
        }
        for key in object.try_iter().map_err(render_failure)? {
            let value = object.get_item(&key).map_err(render_failure)?;
            pairs.push((key, value));
        }
    }
    Ok(pairs)
}

/// `{% generation %}` marks the answers for training; here its block is only a scope.
fn replace_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let name = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim();
        match name {
            "generation" => out.push_str(&tag.replace(name, "with")),
            "endgeneration" => out.push_str(&tag.replace(name, "endwith")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How a value prints. Lists that hold one list many times can be short to make and endless to print, so this stops where
/// the fuel would not pay for the text.
fn text_of(state: &State, value: &Value) -> Result<String, Error> {
    use fmt::Write;
    let mut text = BoundedText { text: String::new(), max_bytes: affordable_bytes(state) };
    match write!(text, "{value}") {
        Ok(()) => Ok(text.text),
        Err(_) => Err(Error::from(ErrorKind::OutOfFuel)),
    }
}

fn affordable_bytes(state: &State) -> usize {
    state.fuel_levels().map_or(usize::MAX, |(_, remaining)| remaining as usize * 2)
}

struct BoundedText {
    text: String,
    max_bytes: usize,
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > self.max_bytes {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

/// Jinja's indent, which, unlike minijinja's, indents a first line that is empty.
fn indent(
    state: &State,
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = match width {
        Some(width) => Some(width),
        None => kwargs.get("width")?,
    };
    let first = match first {
        Some(first) => first,
        None => kwargs.get::<Option<bool>>("first")?.unwrap_or(false),
    };
    let blank = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let text = format!("{text}\n"); // keeps an empty last line
    let lines: Vec<&str> = text.lines().collect();
    let (unit, count) = match width.as_ref().map(|width| (width.as_str(), width.as_usize())) {
        Some((Some(text), _)) => (text, 1),
        Some((None, count)) => (" ", count.unwrap_or(0)),
        None => (" ", 4),
    };
    let added = unit.len().saturating_mul(count).saturating_mul(lines.len() + 1);
    if added > affordable_bytes(state) {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    state.consume_fuel((added + text.len()) as u64 / 64)?;
    let indent = unit.repeat(count);
    let mut out = if first { indent.clone() } else { String::new() };
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            out.push('\n');
            out.push_str(if blank || !line.is_empty() { &indent } else { "" });
        }
        out.push_str(line);
    }
    Ok(out)
}

/// transformers' tojson: json.dumps without HTML escapes.
fn to_json(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(flag) => flag,
        None => kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    let indent = match indent {
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(i64::try_from(indent)?.clamp(0, 64) as usize),
        }),
        None => None,
    };
    let separators: Option<Value> = kwargs.get("separators")?;
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = match separators.filter(|value| !value.is_none()) {
        Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let max_bytes = affordable_bytes(state);
    let text = dumps(value, &Style { ensure_ascii, indent, item_separator, key_separator, sort_keys, max_bytes })?;
    state.consume_fuel(text.len() as u64 / 8)?;
    Ok(Value::from(text))
}

fn separator(pair: &Value, index: usize) -> Result<String, Error> {
    pair.get_item_by_index(index)?
        .as_str()
        .map(str::to_string)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "separators must be two strings"))
}

/// The mark that an error came from raise_exception.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn raise_exception(state: &State, message: &Value) -> Result<Value, Error> {
    let message = text_of(state, message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

fn syntax_failure(error: Error) -> Failure {
    Failure::Syntax(describe(&error))
}

fn render_failure(error: Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Failure::Raised(refusal.0.clone());
        }
        cause = inner.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        let line = error.line().unwrap_or(0);
        return Failure::Render(format!("it needs too much work or memory (line {line})"));
    }
    Failure::Render(describe(&error))
}

/// Kind, detail and line of an error, then of what caused it.
fn describe(error: &Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    if let Some(line) = error.line() {
        text = format!("{text} (line {line})");
    }
    match error.source().and_then(|source| source.downcast_ref::<Error>()) {
        Some(source) => format!("{text}; {}", describe(source)),
        None => text,
    }
}

/// Methods of Python's str, list and dict: those of minijinja-contrib, then those that it lacks.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args) {
        Err(error) if error.kind() == ErrorKind::UnknownMethod => {}
        done => return done,
    }
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map if method == "copy" => Ok(value.clone()),
        ValueKind::Seq if method == "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|item| item == *wanted);
            position.map(Value::from).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "value is not in list"))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let partitioned = |parts: [&str; 3]| Ok(Value::from(Tuple::from(parts.map(Value::from))));
    match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (left, right) = text.split_once(separator).unwrap_or((text, ""));
            partitioned([left, &text[left.len()..text.len() - right.len()], right])
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (left, right) = text.rsplit_once(separator).unwrap_or(("", text));
            partitioned([left, &text[left.len()..text.len() - right.len()], right])
        }
        "rsplit" => {
            let (separator, limit): (&str, Option<i64>) = from_args(args)?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            let mut parts: Vec<&str> = match limit {
                Some(limit) => text.rsplitn(limit + 1, separator).collect(),
                None => text.rsplit(separator).collect(),
            };
            parts.reverse();
            Ok(Value::from_iter(parts))
        }
        "index" => {
            let (wanted,): (&str,) = from_args(args)?;
            let found = text.find(wanted).map(|at| text[..at].chars().count());
            found.map(Value::from).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))
        }
        "casefold" => {
            let () = from_args(args)?;
            Ok(Value::from(text.to_lowercase()))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Arc::new(|format| (format == "%Y").then(|| "2026".to_string()))
    }

    fn render(source: &str, variables: &str) -> Result<String, Failure> {
        let input = Input { messages: "[]", variables, ..Default::default() };
        ChatTemplate::new(source, "")?.render(&input, clock())
    }

    fn rendered(source: &str, variables: &str) -> String {
        render(source, variables).unwrap()
    }

    #[test]
    fn json_is_written_as_by_python() {
        let x = r#"{"x": {"b": [1, 2.0, null, true], "a": "é<'&>\n\u0001", "c": {}}}"#;
        assert_eq!(rendered("{{ x | tojson }}", x), r#"{"b": [1, 2.0, null, true], "a": "é<'&>\n\u0001", "c": {}}"#);
        assert_eq!(
            rendered("{{ x | tojson(indent=2, sort_keys=true, ensure_ascii=true) }}", x),
            "{\n  \"a\": \"\\u00e9<'&>\\n\\u0001\",\n  \"b\": [\n    1,\n    2.0,\n    null,\n    true\n  ],\n  \"c\": {}\n}"
        );
        assert_eq!(rendered("{{ x.b | tojson(separators=(',', ':')) }}", x), "[1,2.0,null,true]");
        assert!(matches!(render("{{ y | tojson }}", x), Err(Failure::Render(_))));
    }

    #[test]
    fn generation_tags_are_scopes() {
        let source = "a\n{%- generation -%}\n b{% set x = 1 %}\n{%- endgeneration %}c{{ x }}";
        assert_eq!(rendered(source, ""), "abc");
    }

    #[test]
    fn exceptions_and_errors_are_told_apart() {
        let raised = render("\n{% macro m() %}{{ raise_exception('no ' ~ 'way') }}{% endmacro %}{{ m() }}", "");
        assert_eq!(raised, Err(Failure::Raised("no way".to_string())));
        let Err(Failure::Render(message)) = render("\n\n{{ x.y.z }}", "{\"x\": {}}") else { panic!() };
        assert!(message.contains("line 3") && message.contains("x.y"), "{message}");
        let Err(Failure::Syntax(message)) = render("\n{% if %}", "") else { panic!() };
        assert!(message.contains("line 2"), "{message}");
        let Err(Failure::Render(message)) = render("", "[1]") else { panic!() };
        assert!(message.contains("not a JSON object"), "{message}");
    }

    #[test]
    fn the_clock_is_the_callers() {
        assert_eq!(rendered("{{ strftime_now('%Y') }}", ""), "2026");
        assert!(matches!(render("{{ strftime_now('%Q') }}", ""), Err(Failure::Render(_))));
    }

    /// A list of 2^60 items, made of 60.
    const NESTED_JSON: &str = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}\
        {% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}";

    #[test]
    fn hostile_templates_end() {
        let sources = [
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            NESTED_JSON,
            &NESTED_JSON.replace(" | tojson", ""),
            &NESTED_JSON.replace("tojson", "string"),
            &NESTED_JSON.replace("{{", "{{ raise_exception(").replace(" | tojson }}", ") }}"),
            "{{ 'x' * 99999999 * 99999999 }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 'a' | indent(999999999, true) }}",
            "{{ '%999999999d' | format(1) }}",
        ];
        for source in sources {
            assert!(matches!(render(source, ""), Err(Failure::Render(_))), "{source}");
        }
    }

    #[test]
    fn python_methods_that_the_library_lacks() {
        let source = "{{ 'a-b-c'.rsplit('-', 1) }}{{ 'a-b-c'.partition('-') }}{{ 'a-b'.rpartition('+') }}\
                      {{ 'xyz'.removeprefix('x').removesuffix('z') }}{{ 'abc'.index('c') }}{{ [3, 4].index(4) }}";
        assert_eq!(rendered(source, ""), "['a-b', 'c']('a', '-', 'b-c')('', '', 'a-b')y21");
    }
}
