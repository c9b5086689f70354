//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1): nothing of what extensions mean.
//!
//! A header that breaks it fails the handshake, whatever is in use: section 9.1 says so, and a proxy that
//! mangles it would else be noticed only by a broken connection.

/// A list that is none by its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element of the list, as it stands there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) name: &'a [u8],
    parameters: &'a [u8],
}

/// A parameter of an extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Option<Value<'a>>,
}

/// A token, or what stands between the quotes of a quoted string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    written: &'a [u8],
    quoted: bool,
}

/// All extensions of all fields, in order (section 9.1: several fields are one list).
pub(crate) fn extensions<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = Result<Extension<'a>, Malformed>> {
    fields.flat_map(|field| {
        let mut scanner = Scanner { rest: field };
        std::iter::from_fn(move || scanner.next_extension())
    })
}

impl<'a> Extension<'a> {
    /// Its parameters, in order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let mut scanner = Scanner { rest: self.parameters };
        std::iter::from_fn(move || scanner.parameter().ok().flatten())
    }
}

impl Value<'_> {
    /// Its bytes, without quotes and backslashes.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> {
        let mut rest = self.written.iter();
        std::iter::from_fn(move || match rest.next() {
            Some(b'\\') if self.quoted => rest.next().copied(),
            byte => byte.copied(),
        })
    }
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// `None` at the end; after an error there is nothing more.
    fn next_extension(&mut self) -> Option<Result<Extension<'a>, Malformed>> {
        // Empty elements are none (RFC 9110, section 5.6.1).
        while self.skip(b',') {}
        if self.rest.is_empty() {
            return None;
        }
        let extension = self.extension();
        if extension.is_err() {
            self.rest = &[];
        }
        Some(extension)
    }

    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token()?;
        let start = self.rest;
        while self.parameter()?.is_some() {}
        let parameters = &start[..start.len() - self.rest.len()];
        if self.rest.is_empty() || self.rest[0] == b',' {
            Ok(Extension { name, parameters })
        } else {
            Err(Malformed)
        }
    }

    /// What begins with a semicolon; `None` if nothing does.
    fn parameter(&mut self) -> Result<Option<Parameter<'a>>, Malformed> {
        if !self.skip(b';') {
            return Ok(None);
        }
        let name = self.token()?;
        let value = if self.skip(b'=') { Some(self.value()?) } else { None };
        Ok(Some(Parameter { name, value }))
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let Some(quoted) = self.rest.strip_prefix(b"\"") else {
            return Ok(Value { written: self.token()?, quoted: false });
        };
        let mut end = 0;
        loop {
            match quoted.get(end).ok_or(Malformed)? {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let value = Value { written: &quoted[..end], quoted: true };
        self.rest = &quoted[end + 1..];
        self.skip_whitespace();
        // What it says has to be a token (section 9.1).
        if end > 0 && value.bytes().all(is_token_byte) { Ok(value) } else { Err(Malformed) }
    }

    /// A token, and the whitespace behind it.
    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        if len == 0 {
            return Err(Malformed);
        }
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.skip_whitespace();
        Ok(token)
    }

    /// Takes a separator with the whitespace around it, if it is what comes next.
    fn skip(&mut self, separator: u8) -> bool {
        self.skip_whitespace();
        let found = self.rest.first() == Some(&separator);
        if found {
            self.rest = &self.rest[1..];
            self.skip_whitespace();
        }
        found
    }

    fn skip_whitespace(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    crate::http::is_token(&[byte])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The list in a form of its own: `name;parameter=value`, values without quotes.
    fn read(fields: &[&str]) -> Result<Vec<String>, Malformed> {
        extensions(fields.iter().map(|field| field.as_bytes()))
            .map(|extension| {
                let extension = extension?;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let mut written = text(extension.name);
                for Parameter { name, value } in extension.parameters() {
                    written += &format!(";{}", text(name));
                    if let Some(value) = value {
                        written += &format!("={}", text(&value.bytes().collect::<Vec<_>>()));
                    }
                }
                Ok(written)
            })
            .collect()
    }

    #[test]
    fn rfc6455_9_1_examples_and_every_form_of_a_list_are_read() {
        for (fields, expected) in [
            (&["foo"][..], &["foo"][..]),
            (&["foo,bar; baz=2"], &["foo", "bar;baz=2"]),
            (&["foo", "bar; baz=2"], &["foo", "bar;baz=2"]),
            (&["deflate-stream"], &["deflate-stream"]),
            (
                &["mux; max-channels=4; flow-control, deflate-stream"],
                &["mux;max-channels=4;flow-control", "deflate-stream"],
            ),
            (&["private-extension"], &["private-extension"]),
            (&["a;b=\"10\"", "a;b=\"1\\0\""], &["a;b=10", "a;b=10"]),
            (&[" \ta ;\tb = 1 ; c ,, ,d"], &["a;b=1;c", "d"]),
            (&["", " , "], &[]),
        ] {
            let expected: Vec<String> = expected.iter().map(|&text| text.into()).collect();
            assert_eq!(read(fields), Ok(expected), "{fields:?}");
        }
    }

    #[test]
    fn rfc6455_9_1_what_breaks_the_grammar_is_refused() {
        for field in [
            ";",
            "=",
            "a b",
            "a;",
            "a;;b",
            "a;b=",
            "a;=1",
            "a;b=1 2",
            "a;b=\"",
            "a;b=\"1",
            "a;b=\"\"",
            "a;b=\"1\\\"",
            "a;b=\"1,2\"",
            "a;b=\" 1\"",
            "a;b=\"1\"2",
            "a, ;b",
            "a;b=1;",
            "\"a\"",
            "é",
            "a;b=é",
            "a@",
            "a;b==1",
        ] {
            assert_eq!(read(&[field]), Err(Malformed), "{field}");
            assert_eq!(read(&["good", field]), Err(Malformed), "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_in_time_and_an_error_is_the_last_element(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                prop::collection::vec(prop::sample::select(b"ab,;=\" \\1".to_vec()), 0..100),
            ],
        ) {
            let elements: Vec<_> = extensions([&bytes[..]].into_iter()).collect();
            let errors = elements.iter().filter(|element| element.is_err()).count();
            prop_assert!(errors <= usize::from(elements.last().is_some_and(Result::is_err)));
            prop_assert!(elements.len() <= bytes.len());
        }
    }
}
