//! The wire format of protocol buffers: field numbers and values, without a schema.
//!
//! Two formats need four fields each, so no generated code and no compiler of schemas.

/// A message that ends within a field, or has a field of an unknown kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.take()?),
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Writes messages.

    /// A field of bytes.
    pub(in crate::formats) fn bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() < 128 && number < 16);
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    /// A field of a number below 128.
    pub(in crate::formats) fn varint(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    /// A field of an f32.
    pub(in crate::formats) fn f32(number: u8, value: f32) -> Vec<u8> {
        [&[number << 3 | 5], value.to_le_bytes().as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_kind_of_field_is_read() {
        let message =
            [&testing::bytes(1, b"ab")[..], &[0x10, 0xac, 0x02], &testing::f32(3, 1.5), &[0x21; 1], &[7; 8]]
                .concat();
        let fields: Result<Vec<_>, _> = Fields(&message).collect();
        let expected = [
            (1, Value::Bytes(b"ab")),
            (2, Value::Varint(300)),
            (3, Value::Fixed32(1.5_f32.to_le_bytes())),
            (4, Value::Fixed64([7; 8])),
        ];
        assert_eq!(fields.unwrap(), expected);
    }

    #[rstest]
    #[case::within_a_key(&[0x80])]
    #[case::endless_number(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]
    #[case::longer_than_the_message(&[0x0a, 5, 1])]
    #[case::length_of_all_memory(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])]
    #[case::group(&[0x0b])]
    fn what_is_no_message_ends_it(#[case] message: &[u8]) {
        assert_eq!(Fields(message).collect::<Vec<_>>(), [Err(Malformed)]);
    }
}
