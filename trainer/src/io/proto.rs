//! Protocol Buffers' wire format, as much of it as is needed to write: numbers, floats, bytes and messages in messages. ONNX files
//! and TensorBoard's event files are made of it.

/// A message as its bytes.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A whole number; negative ones as ten bytes, as the format has it.
    pub fn number(&mut self, field: u64, value: i64) {
        self.varint(field << 3);
        self.varint(value as u64);
    }

    /// A 64-bit float.
    pub fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    /// A 32-bit float.
    pub fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    /// Text; none is left out.
    pub fn text(&mut self, field: u64, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
    }

    /// A message inside.
    pub fn message(&mut self, field: u64, value: &Message) {
        self.bytes(field, &value.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_that_of_its_documentation() {
        let mut inner = Message::default();
        inner.number(1, 150);
        assert_eq!(inner.0, [0x08, 0x96, 0x01]);
        let mut outer = Message::default();
        outer.message(3, &inner);
        outer.text(2, "testing");
        outer.text(4, "");
        assert_eq!(outer.into_bytes(), b"\x1a\x03\x08\x96\x01\x12\x07testing");
        let mut numbers = Message::default();
        numbers.number(1, -2);
        numbers.float(16, 1.0);
        let want =
            [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x85, 0x01, 0, 0, 0x80, 0x3f];
        assert_eq!(numbers.into_bytes(), want);
    }
}
