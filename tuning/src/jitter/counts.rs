//! One core's counts out of the kernel's tables: `/proc/interrupts`, `/proc/softirqs` and `/proc/stat`.

/// The column of one core in `/proc/interrupts` or `/proc/softirqs`, and what each of its rows had at the last reading.
#[derive(Clone, Debug, Default)]
pub struct CoreColumn {
    heading: String,
    names: Vec<String>,
    counts: Vec<u64>,
}

impl CoreColumn {
    /// The column of `core`, as of `text`. Everything that [`CoreColumn::advance`] needs is allocated here.
    #[must_use]
    pub fn of(core: usize, text: &str) -> CoreColumn {
        let mut column = CoreColumn { heading: format!("CPU{core}"), ..CoreColumn::default() };
        let Some(place) = column.place(text) else { return column };
        for row in text.lines().skip(1) {
            column.names.push(row_name(row));
            column.counts.push(cell(row, place).unwrap_or(0));
        }
        column
    }

    /// Where the column stands; the tables have no column for a core that is offline.
    fn place(&self, text: &str) -> Option<usize> {
        text.lines().next()?.split_ascii_whitespace().position(|heading| heading == self.heading)
    }

    /// Takes in a later reading of the same table. Returns by how much all rows together grew, and the row that grew most.
    /// A row that is new since [`CoreColumn::of`] moves those below it: the reading then only sets what later ones are
    /// compared with.
    pub fn advance(&mut self, text: &str) -> (u64, Option<usize>) {
        let Some(place) = self.place(text) else { return (0, None) };
        let (mut sum, mut most, mut rows) = (0u64, (0, None), 0);
        for (row, text) in text.lines().skip(1).enumerate() {
            let (Some(count), now) = (self.counts.get_mut(row), cell(text, place).unwrap_or(0)) else {
                break;
            };
            let grown = now.saturating_sub(*count);
            *count = now;
            sum = sum.saturating_add(grown);
            if grown > most.0 {
                most = (grown, Some(row));
            }
            rows += 1;
        }
        if rows < self.counts.len() { (0, None) } else { (sum, most.1) }
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.names.len()
    }

    /// The name of a row: the device of a numbered interrupt, the kernel's own words for the others.
    #[must_use]
    pub fn name(&self, row: usize) -> &str {
        self.names.get(row).map_or("unknown", String::as_str)
    }
}

fn cell(row: &str, place: usize) -> Option<u64> {
    let (_, cells) = row.split_once(':')?;
    cells.split_ascii_whitespace().nth(place)?.parse().ok()
}

/// `LOC` and `RES` are named by their words, ` 38` by its device, a softirq by its own name.
fn row_name(row: &str) -> String {
    let Some((label, rest)) = row.split_once(':') else { return row.trim().to_owned() };
    let words = rest.split_ascii_whitespace().skip_while(|word| word.parse::<u64>().is_ok());
    let words: Vec<&str> = words.collect();
    let numbered = label.trim().parse::<u32>().is_ok();
    match (numbered, words.last()) {
        (true, Some(device)) => (*device).to_owned(),
        (false, Some(_)) => words.join(" "),
        _ => label.trim().to_owned(),
    }
}

/// Stolen time of a core in `/proc/stat`, in the kernel's ticks of 10 ms; 0 where there is none.
#[must_use]
pub fn steal_ticks(core: usize, stat: &str) -> u64 {
    // user nice system idle iowait irq softirq steal (proc_stat(5))
    const STEAL: usize = 7;
    let row = stat.lines().find_map(|line| {
        let rest = line.strip_prefix("cpu")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (rest[..digits].parse() == Ok(core)).then_some(&rest[digits..])
    });
    row.and_then(|row| row.split_ascii_whitespace().nth(STEAL)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
           CPU0       CPU2
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 38:          0      39344 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
LOC:   26354517   28937102   Local timer interrupts
ERR:          0
";

    #[test]
    fn one_cores_rows_are_compared_and_named() {
        let mut column = CoreColumn::of(2, BEFORE);
        assert_eq!(column.advance(BEFORE), (0, None));
        let after =
            BEFORE.replace("39344", "39347").replace("28937102", "28937103").replace("26354517", "99999999");
        let (sum, most) = column.advance(&after);
        assert_eq!((sum, most.map(|row| column.name(row))), (4, Some("virtio2-input.0")));
        assert_eq!(column.name(2), "Local timer interrupts");
        assert_eq!(CoreColumn::of(1, BEFORE).advance(&after), (0, None), "an offline core has no column");
        let softirqs = "   CPU0 \n  TIMER:    7\n NET_RX:  9\n";
        let mut column = CoreColumn::of(0, softirqs);
        let (sum, most) = column.advance(&softirqs.replace('7', "8"));
        assert_eq!((sum, most.map(|row| column.name(row))), (1, Some("TIMER")));
    }

    #[test]
    fn a_table_that_changed_its_rows_is_not_compared() {
        let mut column = CoreColumn::of(0, BEFORE);
        let fewer: String = BEFORE.lines().take(3).map(|line| format!("{line}\n")).collect();
        assert_eq!(column.advance(&fewer), (0, None));
        assert_eq!(column.advance(""), (0, None));
    }

    #[test]
    fn steal_is_the_eighth_figure_of_its_core() {
        let stat =
            "cpu  1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 80 9 10\ncpu11 1 2 3 4 5 6 7 90 0 0\nintr 5\n";
        assert_eq!((steal_ticks(1, stat), steal_ticks(11, stat), steal_ticks(0, stat)), (80, 90, 0));
    }
}
