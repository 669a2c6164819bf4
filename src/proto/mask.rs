//! Masking of a client's payload (RFC 6455 section 5.3).

/// XORs `payload` in place with `mask`. `phase` is how many payload bytes of the same frame came
/// before; only its remainder by four matters. Masking twice gives the payload back.
#[inline]
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4], phase: usize) {
    let mut mask = mask;
    mask.rotate_left(phase % 4);
    let mask_word = u32::from_ne_bytes(mask);
    let mask_wide = u64::from(mask_word) << 32 | u64::from(mask_word);

    // Words of eight bytes, which the compiler turns into vector registers.
    let (wide, tail) = payload.as_chunks_mut::<8>();
    for bytes in wide {
        *bytes = (u64::from_ne_bytes(*bytes) ^ mask_wide).to_ne_bytes();
    }
    let (word, tail) = tail.as_chunks_mut::<4>();
    for bytes in word {
        *bytes = (u32::from_ne_bytes(*bytes) ^ mask_word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasks_the_hello_of_the_rfc() {
        let mut payload = *b"\x7f\x9f\x4d\x51\x58";
        apply_mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn continues_at_any_phase() {
        let mask = [1, 2, 3, 4];
        let mut whole = [0u8; 41];
        apply_mask(&mut whole, mask, 0);
        for cut in 0..=whole.len() {
            let mut pieces = [0u8; 41];
            let (front, back) = pieces.split_at_mut(cut);
            apply_mask(front, mask, 0);
            apply_mask(back, mask, cut);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
