# The table of benches/peers.sh, in Markdown. Input: work, peer, name of the figure, value; a line for each round.

BEGIN {
    FS = "\t"
    works = split("1 1|1 64|" many " 1|memory", work, "|")
    title["1 1"] = "1 pair, 1 ping on its way"
    title["1 64"] = "1 pair, 64 on their way"
    title[many " 1"] = many " pairs, 1 in each"
    title["memory"] = comma(endpoints) " endpoints at rest"
    peers = split("tap-reactor smoltcp threads ping fping", peer, " ")
    name["tap-reactor"] = "tap-reactor"
    name["smoltcp"] = "smoltcp"
    name["threads"] = "two threads a VM"
    name["ping"] = "kernel, `ping -f`"
    name["fping"] = "kernel, `fping`"
    # What others do would be counted, too.
    is_quiet = background < 10
    columns = split("rate mean p99 cpu " (is_quiet ? "busy " : "") "process kernel", column, " ")
    heading["rate"] = "pings/s"
    heading["mean"] = "mean round trip, µs"
    heading["p99"] = "p99, µs"
    heading["cpu"] = "CPU a ping, its processes, µs"
    heading["busy"] = "CPU a ping, machine, µs"
    heading["process"] = "memory an endpoint, process, KiB"
    heading["kernel"] = "memory an endpoint, kernel, KiB"
}

{ values[$1, $2, $3] = values[$1, $2, $3] " " $4 }

# The median of numbers in one string; the mean where a single one is too coarse.
function middle(list, column,    value, n, i, j, swap) {
    n = split(list, value, " ")
    if (column == "busy") {
        for (i = 1; i <= n; i++) swap += value[i]
        return swap / n
    }
    for (i = 1; i <= n; i++)
        for (j = i + 1; j <= n; j++)
            if (value[j] + 0 < value[i] + 0) { swap = value[i]; value[i] = value[j]; value[j] = swap }
    return (value[int((n + 1) / 2)] + value[int((n + 2) / 2)]) / 2
}

function comma(number,    text, from) {
    text = sprintf("%.0f", number)
    for (from = length(text) - 3; from > 0; from -= 3) text = substr(text, 1, from) "," substr(text, from + 1)
    return text
}

# Three figures.
function short(number) {
    if (number >= 1000) return comma(number)
    return sprintf(number >= 99.95 ? "%.0f" : number >= 9.995 ? "%.1f" : "%.2f", number)
}

function better(one, other, column) { return column == "rate" ? one > other : one < other }

function is_kernel(who) { return who ~ /ping$/ }

# Which of the peers is best in a column: of all, or of the programs in user space only.
function best(w, c, user_space,    p, who, first) {
    for (p = 1; p <= peers; p++) {
        who = peer[p]
        if ((w, who, c) in figure && figure[w, who, c] >= 0 && !(user_space && is_kernel(who)))
            if (first == "" || better(figure[w, who, c], figure[w, first, c], c)) first = who
    }
    return first
}

# Whether tap-reactor is behind another program in user space, by more than 2 in 100.
function is_behind(w, c,    ours, first) {
    if (!((w, "tap-reactor", c) in figure)) return 0
    ours = figure[w, "tap-reactor", c]
    first = figure[w, best(w, c, 1), c]
    return c == "rate" ? ours * 1.02 < first : ours > first * 1.02
}

function add(list, item) { return list == "" ? item : list "; " item }

END {
    line = "| work | who |"
    rule = "|---|---|"
    for (c = 1; c <= columns; c++) { line = line " " heading[column[c]] " |"; rule = rule "---|" }
    print line
    print rule
    for (key in values) {
        split(key, part, SUBSEP)
        if (part[3] == "lost") { split(values[key], one, " "); for (i in one) lost[part[2]] += one[i] }
        else figure[part[1], part[2], part[3]] = middle(values[key], part[3])
    }
    for (w = 1; w <= works; w++) {
        for (p = 1; p <= peers; p++) {
            line = ""
            for (c = 1; c <= columns; c++) {
                cell = ""
                if ((work[w], peer[p], column[c]) in figure) {
                    # Somebody else has given back memory meanwhile.
                    cell = figure[work[w], peer[p], column[c]] < 0 ? "disturbed" : short(figure[work[w], peer[p], column[c]])
                    if (best(work[w], column[c]) == peer[p]) cell = "**" cell "**"
                    found = 1
                }
                line = line " " cell " |"
            }
            if (found) print "| " title[work[w]] " | " name[peer[p]] " |" line
            found = 0
        }
        for (c = 1; c <= columns; c++) {
            if (is_kernel(best(work[w], column[c]))) wins = add(wins, heading[column[c]] ": " title[work[w]])
            if (is_behind(work[w], column[c])) behind = add(behind, heading[column[c]] ": " title[work[w]])
        }
    }
    print "\nWhere the kernel leads: " (wins == "" ? "nowhere." : wins ".")
    print "What speaks for it: its endpoints need no process. The reply is made in the softirq that the request raises while ping is"
    print "still in sendto(): two system calls a round trip, not four. " many " pairs are " many " processes, on all processors (here " processors "), where"
    print "tap-reactor and smoltcp have one thread on one. What speaks against it: sockets, routing and netfilter at both ends of each"
    print "ping, and a whole stack in each namespace."
    print "\nWhere another program in user space is ahead of tap-reactor, by more than 2 %: " (behind == "" ? "nowhere." : behind ".")
    print "\n" rounds " rounds of " comma(pings) " pings of 56 bytes, in turns; medians, best in bold. CPU and memory are differences, between runs with"
    print "all pings and with hardly any, and between 2 endpoints and " comma(endpoints) ". A softirq is charged to the process in whose system call it runs."
    if (is_quiet) print "CPU of the machine is what /proc/stat has for it (mean of all rounds, ticks of 10 ms), to see that nothing is hidden."
    else print "No CPU of the whole machine: before the runs it spent " background " % of a processor on other things."
    print "Memory of the kernel: SUnreclaim, KernelStack, PageTables and Percpu of /proc/meminfo. ping and fping tell whole"
    print "microseconds, fping with the kernel's time of arrival; ping's p99 is from runs with -i 0 in place of -f, which prints none."
    print "In place of " many " pairs, fping has one sender and " many " targets; it knows no window, and sends every 10 µs or as soon as it can."
    for (p = 1; p <= peers; p++) if (lost[peer[p]] > 0) print "Not answered: " lost[peer[p]] " pings of " name[peer[p]] "."
}
