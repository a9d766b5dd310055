//! Reads a page back, for the tests.

use html5gum::{Token, Tokenizer, emitters::default::DefaultEmitter};
use sha2::{Digest, Sha256};

/// One start tag with its attributes and all the text up to the next tag.
pub(super) type Element = (String, Vec<(String, String)>, String);

pub(super) fn parse(page: &str) -> Vec<Element> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut elements: Vec<Element> = Vec::new();
    // Without this the script would be read as markup.
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(page, emitter) {
        match token.unwrap() {
            Token::StartTag(tag) => {
                let attributes = tag
                    .attributes
                    .iter()
                    .map(|(name, value)| (text(name), text(value)))
                    .collect();
                elements.push((text(&tag.name), attributes, String::new()));
            }
            Token::String(string) => {
                if let Some(element) = elements.last_mut() {
                    element.2.push_str(&text(&string));
                }
            }
            Token::Comment(_) => panic!("a comment"),
            Token::Error(error) => panic!("{error:?}"),
            Token::EndTag(_) | Token::Doctype(_) => {}
        }
    }
    elements
}

pub(super) fn attribute<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    element
        .1
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

pub(super) fn with_id<'a>(elements: &'a [Element], id: &str) -> &'a Element {
    elements
        .iter()
        .find(|element| attribute(element, "id") == Some(id))
        .unwrap_or_else(|| panic!("no #{id}"))
}

/// Written apart from `policy` on purpose: through the bits as a string.
pub(super) fn base64_sha256(content: &str) -> String {
    let digits: Vec<_> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let mut bits: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:08b}"))
        .collect();
    bits.push_str("00");
    let text: String = (0..bits.len() / 6)
        .map(|i| digits[usize::from_str_radix(&bits[i * 6..i * 6 + 6], 2).unwrap()])
        .collect();
    format!("sha256-{text}=")
}
