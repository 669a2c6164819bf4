//! DEFLATE as RFC 1951 has it, bit by bit: a judge for the compressor and a rival for the
//! decompressor, with nothing in common with either.

/// What compressed data comes to.
#[derive(Debug, PartialEq)]
pub struct Inflated {
    pub payload: Vec<u8>,
    /// How far back the data refers at most.
    pub distance_max: usize,
}

/// Inflates the payload of a compressed message, to which the tail of a flush is yet to be added, as
/// if `context` had been inflated before. `None`: it is malformed, or does not end where a block
/// does.
pub fn inflate_message(compressed: &[u8], context: &[u8]) -> Option<Inflated> {
    let data = [compressed, &[0, 0, 0xff, 0xff]].concat();
    let mut reader = Reader {
        data: &data,
        at: 0,
        out: context.to_vec(),
        distance_max: 0,
    };
    loop {
        let is_final = reader.block()?;
        // A final block is followed by the next one on a byte's boundary.
        if is_final {
            reader.at = reader.at.next_multiple_of(8);
        }
        if reader.at == 8 * data.len() {
            return Some(Inflated {
                payload: reader.out.split_off(context.len()),
                distance_max: reader.distance_max,
            });
        }
    }
}

struct Reader<'a> {
    data: &'a [u8],
    /// In bits.
    at: usize,
    out: Vec<u8>,
    distance_max: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for n in 0..count {
            let bit = self.data.get(self.at / 8)? >> (self.at % 8) & 1;
            value |= usize::from(bit) << n;
            self.at += 1;
        }
        Some(value)
    }

    /// One block; says whether it is marked as final.
    fn block(&mut self) -> Option<bool> {
        let is_final = self.bits(1)? == 1;
        match self.bits(2)? {
            0 => self.stored()?,
            1 => {
                let lengths = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
                self.codes(&Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (literals, distances) = self.dynamic_codes()?;
                self.codes(&literals, &distances)?;
            }
            _ => return None,
        }
        Some(is_final)
    }

    fn stored(&mut self) -> Option<()> {
        self.at = self.at.next_multiple_of(8);
        let (len, complement) = (self.bits(16)?, self.bits(16)?);
        let start = self.at / 8;
        let stored = self.data.get(start..start + len)?;
        self.out.extend(stored);
        self.at += 8 * len;
        (len ^ complement == 0xffff).then_some(())
    }

    fn dynamic_codes(&mut self) -> Option<(Code, Code)> {
        let (literals, distances) = (self.bits(5)? + 257, self.bits(5)? + 1);
        let code_lengths = self.bits(4)? + 4;
        if literals > 286 || distances > 30 {
            return None;
        }
        let mut lengths = [0; 19];
        const ORDER: [usize; 19] = [
            16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
        ];
        for symbol in ORDER.into_iter().take(code_lengths) {
            lengths[symbol] = self.bits(3)?;
        }
        let code = Code::new(&lengths).filter(|code| code.is_complete)?;
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, times) = match self.symbol(&code)? {
                16 => (*lengths.last()?, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length, 1),
            };
            lengths.extend(std::iter::repeat_n(length, times));
        }
        if lengths.len() > literals + distances || lengths[256] == 0 {
            return None;
        }
        let (literals, distances) = lengths.split_at(literals);
        let literals = Code::new(literals).filter(Code::is_complete_or_single)?;
        let distances = Code::new(distances).filter(Code::is_complete_or_single)?;
        Some((literals, distances))
    }

    fn codes(&mut self, literals: &Code, distances: &Code) -> Option<()> {
        loop {
            let length = match self.symbol(literals)? {
                literal @ 0..=255 => {
                    self.out.push(literal as u8);
                    continue;
                }
                256 => return Some(()),
                symbol @ 257..=264 => symbol - 254,
                285 => 258,
                symbol @ 265..=284 => {
                    let (extra, step) = ((symbol - 261) / 4, (symbol - 261) % 4);
                    3 + ((4 + step) << extra) + self.bits(extra)?
                }
                _ => return None,
            };
            let distance = match self.symbol(distances)? {
                symbol @ 0..=3 => symbol + 1,
                symbol @ 4..=29 => {
                    let extra = symbol / 2 - 1;
                    1 + ((2 + symbol % 2) << extra) + self.bits(extra)?
                }
                _ => return None,
            };
            self.distance_max = self.distance_max.max(distance);
            for _ in 0..length {
                let from = self.out.len().checked_sub(distance)?;
                self.out.push(self.out[from]);
            }
        }
    }

    fn symbol(&mut self, code: &Code) -> Option<usize> {
        let (mut word, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            word |= self.bits(1)?;
            if word < first + count {
                return Some(code.symbols[index + word - first]);
            }
            index += count;
            first = (first + count) << 1;
            word <<= 1;
        }
        None
    }
}

/// A Huffman code: how many words of each length there are, and its symbols in order.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
    is_complete: bool,
}

impl Code {
    /// `None`: more words than their lengths allow.
    fn new(lengths: &[usize]) -> Option<Self> {
        let mut counts = [0; 16];
        for &length in lengths {
            counts[length] += 1;
        }
        counts[0] = 0;
        let mut left = 1;
        for count in &counts[1..] {
            left = (2usize * left).checked_sub(*count)?;
        }
        let mut symbols: Vec<usize> = (0..lengths.len()).collect();
        symbols.retain(|&symbol| lengths[symbol] > 0);
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Some(Self {
            counts,
            symbols,
            is_complete: left == 0,
        })
    }

    /// zlib takes an incomplete code only of one word, of one bit, or of none at all.
    fn is_complete_or_single(&self) -> bool {
        self.is_complete || self.symbols.len() == self.counts[1]
    }
}
