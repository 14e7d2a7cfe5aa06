//! Bytes as tokens spell them.
//!
//! Purpose: GPT-2's characters for bytes, and `<0x0A>`, as SentencePiece writes a byte that no token has.
//! Invariant: the characters and the bytes are one to one.
//! Must not know: tokens that are no bytes.

/// The character that stands for a byte: itself where it is printable Latin-1, else the next one from U+0100 on.
pub(in crate::foreign) fn char_of_byte(byte: u8) -> char {
    const CHARS: [char; 256] = chars();
    CHARS[byte as usize]
}

const fn chars() -> [char; 256] {
    let bytes = table();
    let mut chars = ['\0'; 256];
    let mut code = 0;
    while code < bytes.len() {
        if let (Some(byte), Some(char)) = (bytes[code], char::from_u32(code as u32)) {
            chars[byte as usize] = char;
        }
        code += 1;
    }
    chars
}

/// The byte that a character stands for.
fn byte_of_char(char: char) -> Option<u8> {
    const TABLE: [Option<u8>; 0x144] = table();
    *TABLE.get(char as usize)?
}

const fn table() -> [Option<u8>; 0x144] {
    let mut table = [None; 0x144];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 0x100 {
        let printable = matches!(byte as u8, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        table[if printable { byte } else { next }] = Some(byte as u8);
        next += if printable { 0 } else { 1 };
        byte += 1;
    }
    table
}

/// The bytes that the characters of a token stand for; `None` if one of them stands for no byte.
pub(in crate::foreign) fn bytes_of_chars(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of_char).collect()
}

/// The byte of a token like `<0x0A>`.
pub(in crate::foreign) fn byte_of_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // The standard library would also read a sign.
    let digits =
        Some(digits).filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}
