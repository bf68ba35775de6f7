//! Owns the table of cells over leading bits in which a value is compared with at most one edge. Knows nothing of counts or memory.

use crate::simd::wide::Wide;

/// Cells of values with equal leading bits, few enough values that no two different edges divide one cell.
///
/// The *slot* of a value is twice its cell, plus one when it is not below the cell's edge; a slot belongs to one rank.
#[derive(Debug)]
pub struct Cells {
    /// Bits dropped from a magnitude.
    pub shift: u32,
    /// Leading bits of magnitudes below every edge.
    pub smallest: u32,
    /// Cells on each side of zero; falling magnitudes below zero come first.
    pub width: u32,
    /// The edge that divides each cell, as a number of the wide type; NaN, which nothing reaches, where there is none.
    pub dividing: Vec<f64>,
    /// The rank of each slot: how many edges are at most its values, the last edge only when they are beyond it.
    pub ranks: Vec<u32>,
}

/// Cells at most, so that their counters stay in the second-level cache.
const MOST_CELLS: u64 = 1 << 15;

impl Cells {
    /// For values of type `W`; `None` where the table would be too big.
    pub(crate) fn new<W: Wide>(edges: &[f64]) -> Option<Self> {
        // A value is at least an edge when it is at least the first number of its type that is.
        let mut marks: Vec<W> = edges.iter().map(|&e| W::at_least(e)).collect();
        // The last bin is closed: only what is beyond its edge is beyond the bin.
        if let (Some(mark), Some(&stop)) = (marks.last_mut(), edges.last())
            && mark.to_f64() == stop
        {
            *mark = mark.next_up();
        }
        (1..=W::MANTISSA).rev().find_map(|shift| Layout::new(&marks, shift).fill(&marks)).flatten()
    }
}

/// How values are cut into cells.
struct Layout {
    shift: u32,
    smallest: u64,
    width: u64,
}

impl Layout {
    fn new<W: Wide>(marks: &[W], shift: u32) -> Self {
        let magnitudes = || marks.iter().map(|m| m.magnitude()).filter(|&m| m > 0).map(|m| m >> shift);
        let (lowest, highest) = (magnitudes().min().unwrap_or(1), magnitudes().max().unwrap_or(1));
        // One cell below the lowest leading bits, and one beyond the highest.
        let smallest = lowest.saturating_sub(1);
        Self { shift, smallest, width: highest + 2 - smallest }
    }

    /// `None` where two edges divide one cell, `Some(None)` where there are too many cells to go on.
    #[allow(clippy::option_option, reason = "not yet and never are different answers")]
    fn fill<W: Wide>(&self, marks: &[W]) -> Option<Option<Cells>> {
        if 2 * self.width > MOST_CELLS {
            return Some(None);
        }
        let (mut dividing, mut ranks) = (Vec::new(), Vec::new());
        let mut below = 0;
        for cell in 0..2 * self.width {
            let (low, high) = self.bounds::<W>(cell);
            below += marks[below..].iter().take_while(|&&m| m <= low).count();
            let inside = marks[below..].iter().take_while(|&&m| m <= high);
            let (mut first, mut more) = (W::NAN, 0);
            for &mark in inside {
                if more > 0 && mark != first {
                    return None;
                }
                first = mark;
                more += 1;
            }
            dividing.push(first.to_f64());
            ranks.extend([below as u32, (below + more) as u32]);
        }
        Some(Some(Cells {
            shift: self.shift,
            smallest: self.smallest as u32,
            width: self.width as u32,
            dividing,
            ranks,
        }))
    }

    /// Smallest and largest value of a cell. Cells of falling magnitudes below zero come first; the outermost hold everything beyond.
    fn bounds<W: Wide>(&self, cell: u64) -> (W, W) {
        let step = if cell < self.width { self.width - 1 - cell } else { cell - self.width };
        let nearest = if step == 0 { 0 } else { (self.smallest + step) << self.shift };
        let farthest =
            if step + 1 == self.width { W::INFINITY } else { ((self.smallest + step + 1) << self.shift) - 1 };
        let (near, far) = (W::of_magnitude(nearest), W::of_magnitude(farthest.min(W::INFINITY)));
        if cell < self.width { (far.negate(), near.negate()) } else { (near, far) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rank that the cells give a value, and the one that the edges do.
    fn both<W: Wide>(cells: &Cells, edges: &[f64], x: W) -> (u32, u32) {
        let step = (x.magnitude() >> cells.shift) as u32;
        let step = step.max(cells.smallest).min(cells.smallest + cells.width - 1) - cells.smallest;
        let cell = if x < W::ZERO { cells.width - 1 - step } else { cells.width + step } as usize;
        let slot = 2 * cell + usize::from(x.to_f64() >= cells.dividing[cell]);
        let rank = edges.partition_point(|&e| e <= x.to_f64()) - usize::from(edges.last() == Some(&x.to_f64()));
        (cells.ranks[slot], rank as u32)
    }

    fn check<W: Wide>(edges: &[f64]) {
        let cells = Cells::new::<W>(edges).expect("a table of cells");
        let around = |e: f64| {
            let mark = W::at_least(e);
            let below = W::at_least(-e).next_up().negate();
            [mark, mark.next_up(), below, mark.negate(), below.negate()]
        };
        let others = [0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, f64::INFINITY, -f64::INFINITY];
        for x in edges.iter().flat_map(|&e| around(e)).chain(others.iter().map(|&x| W::at_least(x))) {
            let (found, expected) = both(&cells, edges, x);
            assert_eq!(found, expected, "{} of {} edges", x.to_f64(), edges.len());
        }
    }

    #[test]
    fn slots_have_one_rank() {
        let growing: Vec<f64> = (0..774).map(|i| 1e-12 * 1.1_f64.powi(i)).collect();
        let mut tensorboard: Vec<f64> = growing.iter().rev().map(|e| -e).collect();
        tensorboard.push(0.0);
        tensorboard.extend(&growing);
        let linear: Vec<f64> = (0..=300).map(|i| f64::from(i) / 37.0 - 4.0).collect();
        for edges in [&tensorboard[..], &linear, &[-1.0, 1.0], &[0.0, 1e-300], &[-3.0, -2.0, -1e-3], &[1e300, f64::MAX]]
        {
            check::<f64>(edges);
            check::<f32>(edges);
        }
    }

    #[test]
    fn crowded_edges_have_no_cells() {
        let crowded: Vec<f64> = (0..20_000).map(|i| 1.0 + f64::from(i) * 1e-9).chain([-1e-30, 1e30]).collect();
        let mut crowded = crowded;
        crowded.sort_by(f64::total_cmp);
        assert!(Cells::new::<f64>(&crowded).is_none());
    }
}
