//! JSON as Python's json.dumps writes it, which is what chat templates were written against.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The options of json.dumps that templates may set.
pub struct Style {
    pub ensure_ascii: bool,
    /// One level of indentation; `None` writes one line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    /// Output longer than this is an error, for values that name one large value many times.
    pub max_bytes: usize,
}

/// `value` as JSON text.
pub fn dumps(value: &Value, style: &Style) -> Result<String, Error> {
    let mut writer = Writer { style, out: String::new(), depth: 0 };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer<'a> {
    style: &'a Style,
    out: String,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        if self.out.len() > self.style.max_bytes {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&python_float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value)?,
            ValueKind::Map => self.map(value)?,
            other => {
                let message = format!("a value of type {other} cannot be written as JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn list(&mut self, value: &Value) -> Result<(), Error> {
        self.open('[')?;
        let mut count = 0;
        for item in value.try_iter()?.checked() {
            self.next_item(count);
            self.value(&item?)?;
            count += 1;
        }
        self.close(']', count);
        Ok(())
    }

    fn map(&mut self, value: &Value) -> Result<(), Error> {
        let mut keys = value.try_iter()?.checked().collect::<Result<Vec<Value>, Error>>()?;
        if self.style.sort_keys {
            keys.sort();
        }
        self.open('{')?;
        for (count, key) in keys.iter().enumerate() {
            self.next_item(count);
            match key.as_str() {
                Some(text) => self.string(text),
                None => {
                    let plain = dumps(key, &Style { indent: None, ..self.style_clone() })?;
                    self.string(&plain);
                }
            }
            self.out.push_str(&self.style.key_separator);
            self.value(&value.get_item(key)?)?;
        }
        self.close('}', keys.len());
        Ok(())
    }

    fn style_clone(&self) -> Style {
        Style {
            ensure_ascii: self.style.ensure_ascii,
            indent: self.style.indent.clone(),
            item_separator: self.style.item_separator.clone(),
            key_separator: self.style.key_separator.clone(),
            sort_keys: self.style.sort_keys,
            max_bytes: self.style.max_bytes,
        }
    }

    fn open(&mut self, bracket: char) -> Result<(), Error> {
        if self.depth >= 200 {
            return Err(Error::new(ErrorKind::InvalidOperation, "the value is nested more than 200 levels deep"));
        }
        self.out.push(bracket);
        self.depth += 1;
        Ok(())
    }

    fn next_item(&mut self, count: usize) {
        if count > 0 {
            self.out.push_str(&self.style.item_separator);
        }
        self.line_break();
    }

    fn close(&mut self, bracket: char, count: usize) {
        self.depth -= 1;
        if count > 0 {
            self.line_break();
        }
        self.out.push(bracket);
    }

    fn line_break(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            for _ in 0..self.depth {
                self.out.push_str(indent);
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.style.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A float as Python's repr writes it: the shortest digits that read back, with an exponent from 1e16 and below 1e-4.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_python() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
        ];
        for (value, text) in cases {
            assert_eq!(python_float(value), text);
        }
    }
}
