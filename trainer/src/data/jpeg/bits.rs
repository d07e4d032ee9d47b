//! Codes of a scan's data: bits between markers, and Huffman tables (T.81, annexes C and F).

/// Why there is no further code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The data end, or a marker comes.
    Short,
    /// The table has no such code.
    Bad,
}

/// Reads bits up to the next marker, without the zeros that are stuffed after 0xFF.
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Begins at a place.
    pub fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, count: 0 }
    }

    /// Where the next byte is that was not looked at: a marker, unless more data follow than were asked for.
    pub fn place(&self) -> usize {
        self.at
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            self.at += 1;
            if byte == 0xFF {
                match self.bytes.get(self.at) {
                    Some(0) => self.at += 1,
                    // A fill byte before a marker.
                    Some(0xFF) => continue,
                    _ => {
                        self.at -= 1;
                        return;
                    }
                }
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next bits, 16 at most.
    pub fn take(&mut self, bits: u32) -> Result<u32, Stop> {
        if self.count < bits {
            self.fill();
        }
        self.count = self.count.checked_sub(bits).ok_or(Stop::Short)?;
        Ok((self.buffer >> self.count) as u32 & ((1 << bits) - 1))
    }

    /// The next symbol by a table.
    pub fn symbol(&mut self, table: &Table) -> Result<u8, Stop> {
        if self.count < 16 {
            self.fill();
        }
        let window =
            if self.count < 16 { self.buffer << (16 - self.count) } else { self.buffer >> (self.count - 16) };
        let Some((symbol, length)) = table.find(window as u32 & 0xFFFF) else {
            return Err(if self.count < 16 { Stop::Short } else { Stop::Bad });
        };
        self.count = self.count.checked_sub(length).ok_or(Stop::Short)?;
        Ok(symbol)
    }

    /// Drops what is left before the next marker and passes it, if it is a restart marker.
    pub fn restart(&mut self) -> Result<(), Stop> {
        (self.buffer, self.count) = (0, 0);
        while let Some(rest) = self.bytes.get(self.at..) {
            match rest {
                [0xFF, 0xD0..=0xD7, ..] => {
                    self.at += 2;
                    return Ok(());
                }
                [] | [0xFF] | [0xFF, 0x01..=0xFE, ..] => break,
                _ => self.at += 1,
            }
        }
        Err(Stop::Short)
    }
}

/// Codes up to this length are looked up at once.
const QUICK: u32 = 9;

/// A Huffman table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Symbol and length by the next [`QUICK`] bits; length 0: the code is longer.
    quick: Vec<(u8, u8)>,
    /// Of each length the first number that is no code, and what to add to a code for the place of its symbol.
    lengths: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    /// A table by the number of codes of each length and their symbols in order; `None` where there are more codes than
    /// numbers of a length, or too few symbols.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Table> {
        let mut quick = vec![(0, 0); 1 << QUICK];
        let mut lengths = [(0, 0); 17];
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let count = usize::from(count);
            lengths[length as usize] = (code + count as u32, place as i32 - code as i32);
            for &symbol in symbols.get(place..place + count)? {
                if code >= 1 << length {
                    return None;
                }
                if length <= QUICK {
                    let free = QUICK - length;
                    let first = (code << free) as usize;
                    quick[first..first + (1 << free)].fill((symbol, length as u8));
                }
                code += 1;
            }
            place += count;
            code <<= 1;
        }
        Some(Table { quick, lengths, symbols: symbols[..place].to_vec() })
    }

    /// The symbol that 16 bits begin with, and the length of its code.
    fn find(&self, window: u32) -> Option<(u8, u32)> {
        let (symbol, length) = self.quick[(window >> (16 - QUICK)) as usize];
        if length > 0 {
            return Some((symbol, u32::from(length)));
        }
        (QUICK + 1..=16).find_map(|length| {
            let (end, offset) = self.lengths[length as usize];
            let code = window >> (16 - length);
            let symbol = self.symbols.get(usize::try_from(code as i32 + offset).ok()?)?;
            (code < end).then_some((*symbol, length))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_by_their_bits_and_stuffed_zeros_are_left_out() {
        // Codes 0, 10 and, with twelve bits, 110000000000.
        let mut counts = [0; 16];
        (counts[0], counts[1], counts[11]) = (1, 1, 1);
        let table = Table::new(&counts, &[7, 8, 9]).unwrap();
        // 0 10 110000000000 0, then 0xFF as data: eight ones, which are no code.
        let bytes = [0b0101_1000, 0, 0xFF, 0, 0xFF, 0xD9];
        let mut bits = Bits::new(&bytes, 0);
        assert_eq!([0; 4].map(|_| bits.symbol(&table)), [Ok(7), Ok(8), Ok(9), Ok(7)]);
        assert_eq!((bits.take(8), bits.take(1)), (Ok(255), Err(Stop::Short)));
        assert_eq!(bits.place(), 4);
        assert_eq!(Bits::new(&[0xFF, 0, 0xFF, 0], 0).symbol(&table), Err(Stop::Bad));
        assert_eq!(Bits::new(&[0xFF, 0], 0).symbol(&table), Err(Stop::Short));
    }

    #[test]
    fn impossible_tables_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_none());
        counts[0] = 2;
        assert!(Table::new(&counts, &[1]).is_none());
        assert!(Table::new(&counts, &[1, 2]).is_some());
    }

    #[test]
    fn a_restart_is_passed_and_another_marker_is_none() {
        let bytes = [1, 2, 0xFF, 0, 3, 0xFF, 0xD3, 9, 0xFF, 0xD9];
        let mut bits = Bits::new(&bytes, 0);
        assert_eq!((bits.restart(), bits.place(), bits.restart()), (Ok(()), 7, Err(Stop::Short)));
    }
}
