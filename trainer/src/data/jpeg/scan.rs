//! A frame's scans, read code by code (T.81, annexes F and G).

use super::bits::{Bits, Stop, Table};

/// One of a frame's components.
#[derive(Clone, Debug)]
pub struct Component {
    id: u8,
    across: usize,
    down: usize,
    /// Which coefficients of each block are not 0, of a progressive picture: what later scans say depends on it.
    known: Vec<u64>,
    /// The lowest bit that scans gave of each coefficient.
    lowest: [Option<u8>; 64],
}

/// What a frame header says, and what scans gave so far.
#[derive(Clone, Debug)]
pub struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
}

/// What a scan header says.
pub struct Scan {
    /// Component, its tables for DC and AC.
    parts: Vec<(usize, usize, usize)>,
    first: usize,
    last: usize,
    refines: bool,
    low: u8,
}

/// How a block is coded.
#[derive(Clone, Copy)]
enum Coding {
    Sequential,
    FirstDc,
    RefinedDc,
    FirstAc,
    RefinedAc,
}

/// Huffman tables by number.
#[derive(Default)]
pub struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

/// Where a scan stopped short.
pub struct Broken {
    /// Why.
    pub stop: Stop,
    /// Units read of it, and its units.
    pub done: [usize; 2],
}

impl Tables {
    /// Reads a segment of tables; `None` where it is none.
    pub fn define(&mut self, mut data: &[u8]) -> Option<()> {
        while let Some((&[kind, ref counts @ ..], rest)) = data.split_first_chunk::<17>() {
            let length: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let table = Table::new(counts, rest.get(..length)?)?;
            let set = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *set.get_mut(usize::from(kind & 15))? = Some(table);
            data = &rest[length..];
        }
        Some(())
    }
}

impl Frame {
    /// Reads a frame header; `None` where it is of a kind that decoders at hand refuse.
    pub fn parse(data: &[u8], progressive: bool) -> Option<Frame> {
        let [8, h1, h0, w1, w0, count, ref rest @ ..] = *data else { return None };
        let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
        let mut components = Vec::new();
        for part in rest.get(..3 * usize::from(count))?.chunks_exact(3) {
            let (across, down) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
                return None;
            }
            components.push(Component { id: part[0], across, down, known: Vec::new(), lowest: [None; 64] });
        }
        if width == 0 || height == 0 || !(1..=4).contains(&components.len()) {
            return None;
        }
        Some(Frame { width: width.into(), height: height.into(), progressive, components })
    }

    /// Whether coefficients come in several scans, and the number of components.
    pub fn kind(&self) -> (bool, usize) {
        (self.progressive, self.components.len())
    }

    /// Reads a scan header. `None` where it names what the frame does not have.
    pub fn scan(&self, data: &[u8]) -> Option<Scan> {
        let (&count, rest) = data.split_first()?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[first, last, bits, ..] = rest else { return None };
        let parts: Option<Vec<_>> = parts
            .chunks_exact(2)
            .map(|part| {
                let component = self.components.iter().position(|c| c.id == part[0])?;
                Some((component, usize::from(part[1] >> 4), usize::from(part[1] & 15)))
            })
            .collect();
        let scan = Scan {
            parts: parts.filter(|parts| !parts.is_empty())?,
            first: first.into(),
            last: last.into(),
            refines: bits >> 4 > 0,
            low: bits & 15,
        };
        let range = scan.first <= scan.last && scan.last < 64;
        let fits = match scan.first {
            0 => scan.last == 0,
            _ => scan.parts.len() == 1,
        };
        (!self.progressive || range && fits).then_some(scan)
    }

    fn most(&self) -> (usize, usize) {
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max().unwrap_or(1);
        (most(|c| c.across), most(|c| c.down))
    }

    /// Reads a scan's data and gives where they end. `None` where a table is missing.
    pub fn read(
        &mut self,
        scan: &Scan,
        tables: &Tables,
        interval: usize,
        bytes: &[u8],
        at: usize,
    ) -> Option<Result<usize, Broken>> {
        let coding = match (self.progressive, scan.first, scan.refines) {
            (false, ..) => Coding::Sequential,
            (true, 0, false) => Coding::FirstDc,
            (true, 0, true) => Coding::RefinedDc,
            (true, _, false) => Coding::FirstAc,
            (true, _, true) => Coding::RefinedAc,
        };
        let (most_across, most_down) = self.most();
        let units = [self.width.div_ceil(8 * most_across), self.height.div_ceil(8 * most_down)];
        // A component alone comes without the blocks that only fill units up.
        let alone = scan.parts.len() == 1;
        let [columns, rows] = if alone {
            let part = &self.components[scan.parts[0].0];
            [
                (self.width * part.across).div_ceil(8 * most_across),
                (self.height * part.down).div_ceil(8 * most_down),
            ]
        } else {
            units
        };
        let mut blocks = Vec::new();
        for &(component, dc, ac) in &scan.parts {
            let part = &mut self.components[component];
            let (dc, ac) = (tables.dc.get(dc)?.as_ref(), tables.ac.get(ac)?.as_ref());
            let complete = match coding {
                Coding::Sequential => dc.is_some() && ac.is_some(),
                Coding::FirstDc => dc.is_some(),
                Coding::RefinedDc => true,
                Coding::FirstAc | Coding::RefinedAc => ac.is_some(),
            };
            if !complete {
                return None;
            }
            let stride = units[0] * part.across;
            if matches!(coding, Coding::FirstAc | Coding::RefinedAc) && part.known.is_empty() {
                part.known = vec![0; stride * units[1] * part.down];
            }
            blocks.push((component, dc, ac, stride));
        }
        let mut bits = Bits::new(bytes, at);
        let mut run = 0;
        let mut none = 0;
        for unit in 0..rows * columns {
            let done = [unit, rows * columns];
            if interval > 0 && unit > 0 && unit % interval == 0 {
                run = 0;
                if let Err(stop) = bits.restart() {
                    return Some(Err(Broken { stop, done }));
                }
            }
            for &(component, dc, ac, stride) in &blocks {
                let part = &mut self.components[component];
                let (across, down) = if alone { (1, 1) } else { (part.across, part.down) };
                for block in 0..across * down {
                    let row = unit / columns * down + block / across;
                    let place = row * stride + unit % columns * across + block % across;
                    let known = part.known.get_mut(place).unwrap_or(&mut none);
                    if let Err(stop) = read_block(&mut bits, coding, [dc, ac], scan, known, &mut run) {
                        return Some(Err(Broken { stop, done }));
                    }
                }
            }
        }
        let range = if self.progressive { scan.first..scan.last + 1 } else { 0..64 };
        let low = if self.progressive { scan.low } else { 0 };
        for &(component, ..) in &scan.parts {
            self.components[component].lowest[range.clone()].fill(Some(low));
        }
        Some(Ok(bits.place()))
    }

    /// Whether scans gave something of every component; with `all` every bit of every coefficient.
    pub fn is_complete(&self, all: bool) -> bool {
        self.components.iter().all(|component| {
            if all {
                component.lowest.iter().all(|low| *low == Some(0))
            } else {
                component.lowest[0].is_some()
            }
        })
    }
}

/// Reads what a scan says of one block.
fn read_block(
    bits: &mut Bits<'_>,
    coding: Coding,
    [dc, ac]: [Option<&Table>; 2],
    scan: &Scan,
    known: &mut u64,
    run: &mut u32,
) -> Result<(), Stop> {
    match (coding, dc, ac) {
        (Coding::Sequential, Some(dc), Some(ac)) => {
            read_difference(bits, dc)?;
            let mut k = 1;
            while k < 64 {
                let symbol = bits.symbol(ac)?;
                match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
                    (15, 0) => k += 16,
                    (_, 0) => break,
                    (zeros, size) => {
                        bits.take(size)?;
                        k += zeros + 1;
                    }
                }
            }
            Ok(())
        }
        (Coding::FirstDc, Some(dc), _) => read_difference(bits, dc),
        (Coding::RefinedDc, ..) => bits.take(1).map(|_| ()),
        (Coding::FirstAc, _, Some(ac)) => read_first(bits, ac, scan, known, run),
        (Coding::RefinedAc, _, Some(ac)) => read_refinement(bits, ac, scan, known, run),
        // Tables were looked for before.
        _ => Err(Stop::Bad),
    }
}

fn read_difference(bits: &mut Bits<'_>, dc: &Table) -> Result<(), Stop> {
    let size = u32::from(bits.symbol(dc)?);
    if size > 16 { Err(Stop::Bad) } else { bits.take(size).map(|_| ()) }
}

fn read_first(
    bits: &mut Bits<'_>,
    ac: &Table,
    scan: &Scan,
    known: &mut u64,
    run: &mut u32,
) -> Result<(), Stop> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let mut k = scan.first;
    while k <= scan.last {
        let symbol = bits.symbol(ac)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size > 0 {
            bits.take(size)?;
            k += zeros;
            *known |= 1u64.checked_shl(k as u32).unwrap_or(0);
            k += 1;
        } else if zeros == 15 {
            k += 16;
        } else {
            // This block and so many more have no further coefficients.
            *run = (1 << zeros) - 1 + bits.take(zeros as u32)?;
            break;
        }
    }
    Ok(())
}

fn read_refinement(
    bits: &mut Bits<'_>,
    ac: &Table,
    scan: &Scan,
    known: &mut u64,
    run: &mut u32,
) -> Result<(), Stop> {
    let mut k = scan.first;
    if *run == 0 {
        while k <= scan.last {
            let symbol = bits.symbol(ac)?;
            let (mut zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size > 0 {
                bits.take(1)?;
            } else if zeros < 15 {
                *run = (1 << zeros) + bits.take(zeros as u32)?;
                break;
            }
            // Coefficients that are known get a bit each on the way; the others are counted.
            while k <= scan.last {
                if *known >> k & 1 == 1 {
                    bits.take(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if size > 0 && k <= scan.last {
                *known |= 1 << k;
            }
            k += 1;
        }
    }
    if *run > 0 {
        while k <= scan.last {
            if *known >> k & 1 == 1 {
                bits.take(1)?;
            }
            k += 1;
        }
        *run -= 1;
    }
    Ok(())
}
