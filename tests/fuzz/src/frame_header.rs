//! The header of a frame: it is read from exactly its bytes, and written as it was read.

use longwire::proto::frame::{HEADER_BYTES_MAX, decode_header, encode_header, frame_end};

pub const SEEDS: &[&[u8]] = &[
    b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x82\xfe\x00\x7e\0\0\0\0",
    b"\x02\xff\x00\x00\x00\x00\x00\x01\x00\x00\x01\x02\x03\x04",
    b"\x89\x00\x8a\x80\0\0\0\0\x88\x02\x03\xe8",
];

pub fn run(input: &[u8]) {
    if let Ok(Some((header, header_len))) = decode_header(input) {
        assert!((2..=HEADER_BYTES_MAX).contains(&header_len));
        assert!(header.payload_len < 1 << 63);
        for cut in 0..header_len {
            assert_eq!(decode_header(&input[..cut]), Ok(None));
        }
        let mut written = Vec::new();
        if let Ok(payload_len) = usize::try_from(header.payload_len) {
            encode_header(
                &mut written,
                header.fin,
                header.opcode,
                header.mask,
                payload_len,
            );
            written[0] |= u8::from(header.rsv1) << 6;
            assert_eq!(written, &input[..header_len]);
        }
    }
    for sent in [0, input.len() / 2, input.len()] {
        let end = frame_end(input, sent);
        assert!(end >= sent && end <= input.len());
    }
}
