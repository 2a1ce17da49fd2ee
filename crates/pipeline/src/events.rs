//! TensorBoard event files: scalars only, in the TFRecord framing.
//!
//! A record is `length u64 · masked CRC-32C of the length · data · masked CRC-32C of the data`; the data is a
//! protobuf `Event { wall_time = 1 (double), step = 2 (int64), file_version = 3, summary = 5 { value = 1
//! { tag = 1, simple_value = 2 (float) } } }`. The wall time is the iteration, so that files do not differ between runs.

/// CRC-32C (Castagnoli), bit by bit; records are a few dozen bytes.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0x82f6_3b78 & (c & 1).wrapping_neg()))
    })
}

fn masked(data: &[u8]) -> [u8; 4] {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(&length));
    out.extend(data);
    out.extend(masked(data));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(out: &mut Vec<u8>, key: u8, data: &[u8]) {
    out.push(key << 3 | 2);
    varint(out, data.len() as u64);
    out.extend(data);
}

/// An event file's bytes: for each step the values of its tags. What is written later in a run only adds to the end.
pub(crate) fn event_file<'a, const N: usize>(
    points: impl IntoIterator<Item = (u64, [(&'a str, f32); N])>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut version = vec![0x09];
    version.extend(0f64.to_le_bytes());
    bytes_field(&mut version, 3, b"brain.Event:2");
    record(&mut out, &version);
    for (step, values) in points {
        for (tag, value) in values {
            let mut item = Vec::new();
            bytes_field(&mut item, 1, tag.as_bytes());
            item.push(2 << 3 | 5);
            item.extend(value.to_le_bytes());
            let mut summary = Vec::new();
            bytes_field(&mut summary, 1, &item);
            let mut event = vec![0x09];
            event.extend((step as f64).to_le_bytes());
            event.push(2 << 3);
            varint(&mut event, step);
            bytes_field(&mut event, 5, &summary);
            record(&mut out, &event);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_matches_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
    }

    #[test]
    fn records_are_framed_end_to_end() {
        let bytes = event_file([(1, [("loss", 0.5)]), (300, [("loss", 0.25)])]);
        let (mut at, mut count) = (0, 0);
        while at < bytes.len() {
            let n = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(bytes[at + 8..at + 12], masked(&bytes[at..at + 8]));
            assert_eq!(bytes[at + 12 + n..at + 16 + n], masked(&bytes[at + 12..at + 12 + n]));
            at += 16 + n;
            count += 1;
        }
        assert_eq!((at, count), (bytes.len(), 3));
        assert!(bytes.windows(4).any(|w| w == b"loss"));
    }
}
