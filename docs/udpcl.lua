-- Bundles over UDP for Wireshark 4 and later: UDPCL version 2 (draft-ietf-dtn-udpcl) and version 1 (RFC 7122).
--
-- Into the folder "Personal Lua Plugins" (Help, About, Folders), or: tshark -X lua_script:udpcl.lua -r FILE
-- Datagrams of UDP port 4556 are taken, and those of other ports that can be nothing else (Analyze, Enabled Protocols,
-- udpcl_udp). Bundles go to Wireshark's own dissectors, those in segments when they are whole; DTLS records go to its DTLS,
-- and what comes out of them comes back here. Secrets of tumpline: `tls.key_log` or SSLKEYLOGFILE, as tls.keylog_file.

local PORT = 4556 -- RFC 7122 section 3.2.2
local SEGMENTS_MOST = 4096 -- of one transfer, and of transfers that are not whole yet
local TRANSFER_OCTETS_MOST = 64 * 1024 * 1024

local udpcl = Proto("udpcl", "Bundle UDP Convergence Layer")
local inner = Proto("udpcl_dtls", "Bundle UDP Convergence Layer within DTLS") -- shown and filtered as the other

local KEYS = {
    [0] = "reserved",
    [1] = "Extension Support",
    [2] = "Transfer",
    [3] = "Sender Listen",
    [4] = "Sender Node ID",
    [5] = "DTLS Initiation",
    [6] = "Peer Probe",
    [7] = "Peer Confirmation",
    [8] = "ECN Counts",
}

local f = {
    message = ProtoField.string("udpcl.message", "Message"),
    keepalive = ProtoField.none("udpcl.keepalive", "Keepalive"),
    padding = ProtoField.bytes("udpcl.padding", "Padding"),
    padding_length = ProtoField.uint32("udpcl.padding.length", "Length of the padding"),
    bundle_length = ProtoField.uint32("udpcl.bundle.length", "Length of the bundle"),
    map = ProtoField.none("udpcl.map", "Extension map"),
    key = ProtoField.int32("udpcl.key", "Key", base.DEC, KEYS),
    value = ProtoField.bytes("udpcl.value", "Value"),
    support = ProtoField.string("udpcl.support", "Supported keys"),
    transfer_id = ProtoField.uint64("udpcl.transfer.id", "Transfer ID"),
    transfer_total = ProtoField.uint64("udpcl.transfer.total", "Total length"),
    transfer_offset = ProtoField.uint64("udpcl.transfer.offset", "Offset"),
    transfer_length = ProtoField.uint32("udpcl.transfer.length", "Length of the data"),
    transfer_data = ProtoField.bytes("udpcl.transfer.data", "Data"),
    transfer_in = ProtoField.framenum("udpcl.transfer.whole_in", "Whole in frame"),
    transfer_segments = ProtoField.uint32("udpcl.transfer.segments", "Segments"),
    listen = ProtoField.uint64("udpcl.listen", "Interval [ms]"),
    node_id = ProtoField.string("udpcl.node_id", "Node ID"),
    dtls = ProtoField.none("udpcl.dtls_initiation", "A DTLS handshake follows"),
    probe_nonce = ProtoField.uint64("udpcl.probe.nonce", "Nonce"),
    probe_sequence = ProtoField.uint64("udpcl.probe.sequence", "Sequence number"),
    probe_delay = ProtoField.uint64("udpcl.probe.confirm_delay", "Confirm delay [ms]"),
    probe_size = ProtoField.uint32("udpcl.probe.size", "Size of the probe"),
    confirm_nonce = ProtoField.uint64("udpcl.confirmation.nonce", "Nonce"),
    confirm_sequences = ProtoField.string("udpcl.confirmation.sequences", "Sequence numbers"),
    ect0 = ProtoField.uint64("udpcl.ecn.ect0", "ECT(0)"),
    ect1 = ProtoField.uint64("udpcl.ecn.ect1", "ECT(1)"),
    ce = ProtoField.uint64("udpcl.ecn.ce", "CE"),
}
udpcl.fields = f

local e = {
    malformed = ProtoExpert.new("udpcl.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR),
    unassigned = ProtoExpert.new("udpcl.unassigned", "No message begins so", expert.group.MALFORMED, expert.severity.ERROR),
    value = ProtoExpert.new("udpcl.value.bad", "Bad value", expert.group.MALFORMED, expert.severity.WARN),
    unknown = ProtoExpert.new("udpcl.key.unknown", "Unassigned key", expert.group.UNDECODED, expert.severity.NOTE),
    alone = ProtoExpert.new("udpcl.alone", "Not alone", expert.group.PROTOCOL, expert.severity.ERROR),
    total = ProtoExpert.new("udpcl.transfer.total_changed", "Total length", expert.group.SEQUENCE, expert.severity.ERROR),
    overlap = ProtoExpert.new("udpcl.transfer.overlap", "Overlap", expert.group.SEQUENCE, expert.severity.WARN),
    many = ProtoExpert.new("udpcl.transfer.many", "Too much", expert.group.REASSEMBLE, expert.severity.WARN),
    padding = ProtoExpert.new("udpcl.padding.filled", "Padding", expert.group.PROTOCOL, expert.severity.NOTE),
    plain = ProtoExpert.new("udpcl.plain", "Plain text", expert.group.SECURITY, expert.severity.WARN),
    cut = ProtoExpert.new("udpcl.cut", "Cut", expert.group.UNDECODED, expert.severity.NOTE),
}
udpcl.experts = e

-- ---- CBOR (RFC 8949), as much of it as maps of UDPCL need; a fault is thrown as a table with its text ---------------------

local UINT, NEGATIVE, OCTETS, TEXT, ARRAY, MAP, TAG, SIMPLE = 0, 1, 2, 3, 4, 5, 6, 7
local DEPTH_MOST = 16

local function fault(text)
    error({ text = text }, 0)
end

-- Major type, value (a number, exact below 2^53; nil for an indefinite length), offset behind the head, offset of the value.
local function head(tvb, at)
    if at >= tvb:len() then
        fault("the datagram ends within an item")
    end
    local first = tvb(at, 1):uint()
    local major, info = math.floor(first / 32), first % 32
    if info < 24 then
        return major, info, at + 1, first
    end
    if info == 31 and major >= OCTETS and major ~= TAG then
        return major, nil, at + 1, first
    end
    local octets = ({ [24] = 1, [25] = 2, [26] = 4, [27] = 8 })[info]
    if octets == nil then
        fault(string.format("octet 0x%02x at %d begins no CBOR item", first, at))
    end
    if at + 1 + octets > tvb:len() then
        fault("the datagram ends within an item")
    end
    local value = 0.0 -- a float: integers of Lua 5.4 would wrap at 2^63
    for index = 1, octets do
        value = value * 256 + tvb(at + index, 1):uint()
    end
    return major, value, at + 1 + octets, first
end

-- The offset behind an item and all that is in it.
local function skip(tvb, at, depth)
    depth = depth or 0
    if depth > DEPTH_MOST then
        fault("items too deep in each other")
    end
    local major, value, after, first = head(tvb, at)
    if first == 0xff then
        fault(string.format("a break at %d that ends nothing", at))
    end
    if major == OCTETS or major == TEXT then
        if value == nil then
            while head(tvb, after) ~= SIMPLE or tvb(after, 1):uint() ~= 0xff do
                after = skip(tvb, after, depth + 1)
            end
            return after + 1
        end
        if after + value > tvb:len() then
            fault("a string is longer than the datagram")
        end
        return after + value
    end
    if major == ARRAY or major == MAP then
        local left = value and value * (major == MAP and 2 or 1)
        while left == nil or left > 0 do
            if left == nil and after < tvb:len() and tvb(after, 1):uint() == 0xff then
                return after + 1
            end
            after = skip(tvb, after, depth + 1)
            left = left and left - 1
        end
        return after
    end
    return major == TAG and skip(tvb, after, depth + 1) or after
end

-- An unsigned integer: its number, the range that shows it, the offset behind it, itself as a UInt64.
local function uint(tvb, at, what)
    local major, value, after = head(tvb, at)
    if major ~= UINT then
        fault(what .. " is no unsigned integer")
    end
    local exact = after - at == 9 and tvb(at + 1, 8):uint64() or UInt64.new(value % 2 ^ 32, math.floor(value / 2 ^ 32))
    return value, tvb(at, after - at), after, exact
end

-- The items of an array: their number if it is told (else they end with a break), and the offset of the first.
local function array(tvb, at, what, ...)
    local major, count, after = head(tvb, at)
    if major ~= ARRAY then
        fault(what .. " is no array")
    end
    if count == nil then -- count them
        local cursor = after
        count = 0
        while cursor >= tvb:len() or tvb(cursor, 1):uint() ~= 0xff do
            cursor = skip(tvb, cursor)
            count = count + 1
        end
    end
    for _, allowed in ipairs({ ... }) do
        if count == allowed then
            return count, after
        end
    end
    if select("#", ...) > 0 then
        fault(string.format("%s has %d items", what, count))
    end
    return count, after
end

-- ---- ranges of integers ------------------------------------------------------------------------------------------------

-- [least, incl, excl, incl ...]: "1-8", "2, 4-6".
local function range_text(tvb, at, what)
    local count, cursor = array(tvb, at, what)
    if count == 0 or count % 2 == 1 then
        fault(what .. " has an odd number of integers, or none")
    end
    local spans, next_one = {}, nil
    for index = 1, count do
        local major, value
        major, value, cursor = head(tvb, cursor)
        if major > (index == 1 and NEGATIVE or UINT) then
            fault(what .. " has something else than integers")
        end
        if index == 1 then
            next_one = major == NEGATIVE and -1 - value or value
        elseif index % 2 == 0 then -- included, from next_one on
            local last = next_one + value
            local form = value == 0 and "%.0f" or "%.0f-%.0f"
            spans[#spans + 1] = string.format(form, next_one, last)
            next_one = last + 1
        else -- excluded
            next_one = next_one + value + 1
        end
    end
    return table.concat(spans, ", ")
end

-- ---- transfers in segments ---------------------------------------------------------------------------------------------

local transfers = {} -- by conversation and ID, those that are not whole yet
local unfinished = 0
local told = {} -- by frame and place: what the first pass found out about a segment
local secured = {} -- by the ends of a conversation: the first frame in which DTLS carries data

function udpcl.init()
    transfers, told, secured, unfinished = {}, {}, {}, 0
end

local function conversation_of(pinfo)
    return string.format("%s %d %s %d", pinfo.src, pinfo.src_port, pinfo.dst, pinfo.dst_port)
end

local function overlaps(transfer, offset, length)
    for _, each in ipairs(transfer.spans) do
        if offset < each.offset + each.length and each.offset < offset + length then
            return each
        end
    end
end

local function begin_transfer(key, total)
    if total > TRANSFER_OCTETS_MOST or unfinished >= SEGMENTS_MOST then
        return nil
    end
    unfinished = unfinished + 1
    transfers[key] = { total = total, spans = {}, held = 0, seen = {} }
    return transfers[key]
end

-- What a segment adds, found out once for each: { expert, text, whole (of the transfer, at its last segment) }.
local function add_segment(pinfo, key, total, offset, data)
    local transfer = transfers[key] or begin_transfer(key, total)
    if transfer == nil then
        return { expert = e.many, text = "not put together: too long, or too many at once" }
    end
    if transfer.total ~= total then
        return { expert = e.total, text = string.format("other segments said %.0f octets", transfer.total) }
    end
    local other = overlaps(transfer, offset, data:len())
    if other ~= nil or #transfer.spans >= SEGMENTS_MOST then
        local text = other and string.format("these octets came in frame %d", other.frame) or "too many segments"
        return { expert = e.overlap, text = text }
    end
    transfer.spans[#transfer.spans + 1] = {
        offset = offset,
        length = data:len(),
        data = data:bytes(),
        frame = pinfo.number,
    }
    transfer.held = transfer.held + data:len()
    local found = { transfer = transfer }
    if transfer.held == total then
        table.sort(transfer.spans, function(a, b)
            return a.offset < b.offset
        end)
        transfer.whole = ByteArray.new()
        for _, each in ipairs(transfer.spans) do
            transfer.whole:append(each.data)
            each.data = nil
        end
        transfer.whole_in = pinfo.number
        found.whole = transfer.whole
        transfers[key] = nil
        unfinished = unfinished - 1
    end
    return found
end

-- ---- bundles -----------------------------------------------------------------------------------------------------------

local function dissect_bundle(tvb, pinfo, root, info)
    info.is_of_bundle = true -- the info column is the bundle's
    local first = tvb(0, 1):uint()
    local name = first == 0x06 and "bundle" or (first >= 0x80 and first <= 0x9f and "bpv7")
    if not name then
        fault("a transfer with something else than a bundle")
    end
    if not pcall(Dissector.call, Dissector.get(name), tvb, pinfo, root) then
        fault("the bundle is malformed")
    end
end

-- ---- items of a map ----------------------------------------------------------------------------------------------------

local function dissect_transfer(tvb, at, pinfo, tree, root, info)
    local count, cursor = array(tvb, at, "the transfer", 2, 4)
    local total, offset, range, number, exact = nil, 0, nil, nil, nil
    number, range, cursor, exact = uint(tvb, cursor, "its ID")
    tree:add(f.transfer_id, range, exact)
    if count == 4 then
        total, range, cursor, exact = uint(tvb, cursor, "its total length")
        tree:add(f.transfer_total, range, exact)
        offset, range, cursor, exact = uint(tvb, cursor, "its offset")
        tree:add(f.transfer_offset, range, exact)
    end
    local major, length, after = head(tvb, cursor)
    if major ~= OCTETS or length == nil or length == 0 or after + length > tvb:len() then
        fault("its data is no byte string of definite length, or empty")
    end
    local data = tvb(after, length)
    tree:add(f.transfer_length, data, length):set_generated()
    if count == 2 then
        info[#info + 1] = string.format("transfer %.0f", number)
        tree:append_text(string.format(" %.0f: a bundle of %d octets", number, length))
        dissect_bundle(data:tvb(string.format("Bundle of transfer %.0f", number)), pinfo, root, info)
        return
    end
    if offset + length > total then
        fault(string.format("octets %.0f to %.0f of %.0f", offset, offset + length - 1, total))
    end
    tree:add(f.transfer_data, data)
    info[#info + 1] = string.format("transfer %.0f, octets %.0f to %.0f of %.0f", number, offset, offset + length - 1, total)
    tree:append_text(string.format(" %.0f: %d octets at %.0f of %.0f", number, length, offset, total))
    local key = conversation_of(pinfo) .. string.format(" %.0f", number)
    local place = string.format("%d %d %.0f %s", pinfo.number, data:offset(), offset, key)
    local found = told[place]
    if found == nil then
        found = add_segment(pinfo, key, total, offset, data)
        told[place] = found
    end
    if found.expert ~= nil then
        tree:add_proto_expert_info(found.expert, found.text)
    elseif found.transfer.whole_in ~= nil then
        tree:add(f.transfer_in, found.transfer.whole_in):set_generated()
    end
    if found.whole ~= nil then
        tree:add(f.transfer_segments, #found.transfer.spans):set_generated()
        dissect_bundle(found.whole:tvb(string.format("Bundle of transfer %.0f", number)), pinfo, root, info)
    end
end

local function add_uints(tvb, at, tree, what, fields)
    local _, cursor = array(tvb, at, what, #fields)
    local values = {}
    for index, field in ipairs(fields) do
        local value, range, exact
        value, range, cursor, exact = uint(tvb, cursor, what)
        tree:add(field, range, exact)
        values[index] = value
    end
    return values
end

local items = {}

items[1] = function(tvb, at, _, tree, _, info)
    local text = range_text(tvb, at, "the range")
    tree:add(f.support, tvb(at, skip(tvb, at) - at), text)
    tree:append_text(": keys " .. text)
    info[#info + 1] = "supports " .. text
end

items[2] = dissect_transfer

items[3] = function(tvb, at, _, tree, _, info)
    local value, range, _, exact = uint(tvb, at, "the interval")
    tree:add(f.listen, range, exact)
    tree:append_text(string.format(": for %.0f ms", value))
    info[#info + 1] = string.format("listens for %.0f ms", value)
end

items[4] = function(tvb, at, _, tree, _, info)
    local major, length, after = head(tvb, at)
    if major ~= TEXT or length == nil or length == 0 then
        fault("the node ID is no text of definite length, or empty")
    end
    local text = tvb(after, length):string(ENC_UTF_8)
    tree:add(f.node_id, tvb(after, length), text)
    tree:append_text(": " .. text)
    info[#info + 1] = text
end

items[5] = function(tvb, at, _, tree, _, info)
    if tvb(at, 1):uint() ~= 0xf6 then
        fault("the value is not null")
    end
    tree:add(f.dtls, tvb(at, 1))
    info[#info + 1] = "DTLS Initiation"
end

items[6] = function(tvb, at, _, tree, _, info)
    local values = add_uints(tvb, at, tree, "the probe", { f.probe_nonce, f.probe_sequence, f.probe_delay })
    tree:add(f.probe_size, tvb(), tvb:len()):set_generated()
    info[#info + 1] = string.format("probe %.0f of %d octets", values[2], tvb:len())
end

items[7] = function(tvb, at, _, tree, _, info)
    local _, cursor = array(tvb, at, "the confirmation", 2)
    local nonce, range, exact
    nonce, range, cursor, exact = uint(tvb, cursor, "its nonce")
    tree:add(f.confirm_nonce, range, exact)
    local text = range_text(tvb, cursor, "the range")
    tree:add(f.confirm_sequences, tvb(cursor, skip(tvb, cursor) - cursor), text)
    tree:append_text(": " .. text)
    info[#info + 1] = "confirms " .. text
end

items[8] = function(tvb, at, _, tree, _, info)
    local counts = add_uints(tvb, at, tree, "the counts", { f.ect0, f.ect1, f.ce })
    if math.max(counts[1], counts[2], counts[3]) >= 2 ^ 32 then
        fault("a count is not below 2^32")
    end
    info[#info + 1] = string.format("ECN %.0f, %.0f, %.0f", counts[1], counts[2], counts[3])
end

-- ---- messages ----------------------------------------------------------------------------------------------------------

local function dissect_item(tvb, at, pinfo, tree, root, info)
    local major, value, value_at = head(tvb, at)
    if major > NEGATIVE or value == nil or value > 0x7fff then
        fault(string.format("the key at %d is no integer from -32768 to 32767", at))
    end
    local key = major == NEGATIVE and -1 - value or value
    local after = skip(tvb, value_at)
    local name = KEYS[key] or (key < 0 and "private" or "unassigned")
    local item = tree:add(udpcl, tvb(at, after - at), name)
    item:add(f.key, tvb(at, value_at - at), key)
    if items[key] == nil then
        item:add(f.value, tvb(value_at, after - value_at))
        item:add_proto_expert_info(e.unknown, string.format("key %d means nothing here", key))
        info[#info + 1] = string.format("key %d", key)
        return key, after
    end
    local ok, problem = pcall(items[key], tvb, value_at, pinfo, item, root, info)
    if not ok then
        if type(problem) ~= "table" then
            error(problem, 0)
        end
        item:add_proto_expert_info(e.value, string.format("%s: %s", name, problem.text))
    end
    return key, after
end

-- One map. Returns the offset behind it, and whether it must be the only one of its datagram.
local function dissect_map(tvb, at, pinfo, tree, root, info)
    local stop = skip(tvb, at)
    local _, count, cursor = head(tvb, at)
    local map = tree:add(f.map, tvb(at, stop - at))
    local keys, number, wants_to_be_alone = {}, 0, false
    while cursor < stop - (count == nil and 1 or 0) do
        local key
        key, cursor = dissect_item(tvb, cursor, pinfo, map, root, info)
        if keys[key] then
            map:add_proto_expert_info(e.malformed, string.format("key %d comes twice", key))
        end
        keys[key] = true
        number = number + 1
        wants_to_be_alone = wants_to_be_alone or key == 5 or key == 6
    end
    if number == 0 then
        map:add_proto_expert_info(e.malformed, "a map without an item")
    end
    if keys[5] and number > 1 then
        map:add_proto_expert_info(e.alone, "a DTLS Initiation with other items")
    end
    map:append_text(string.format(", %d item%s", number, number == 1 and "" or "s"))
    return stop, wants_to_be_alone
end

local function dissect_padding(tvb, at, tree)
    local range = tvb(at)
    tree:add(f.padding_length, range, range:len()):set_generated()
    local item = tree:add(f.padding, range)
    if range:bytes() ~= ByteArray.new(string.rep("00", range:len())) then
        item:add_proto_expert_info(e.padding, "padding that is not all zeros")
    end
end

local function dissect_maps(tvb, pinfo, tree, root, info)
    local at, number, alone = 0, 0, false
    while at < tvb:len() and tvb(at, 1):uint() ~= 0x00 do
        local first = tvb(at, 1):uint()
        if first < 0xa0 or first > 0xbf then
            fault(string.format("octet 0x%02x at %d begins neither a map nor padding", first, at))
        end
        local wants_to_be_alone
        at, wants_to_be_alone = dissect_map(tvb, at, pinfo, tree, root, info)
        number, alone = number + 1, alone or wants_to_be_alone
    end
    if alone and number > 1 then
        tree:add_proto_expert_info(e.alone, "a probe or a DTLS Initiation with other maps")
    end
    if at < tvb:len() then
        dissect_padding(tvb, at, tree)
    end
end

local function kind_of(first)
    if first == 0x00 then
        return "padding"
    elseif first == 0x06 then
        return "bundle of version 6"
    elseif (first >= 0x14 and first <= 0x1a) or (first >= 0x20 and first <= 0x3f) then
        return "DTLS record" -- RFC 9147 section 4: 0x20 to 0x3f are encrypted records of version 1.3
    elseif first >= 0x80 and first <= 0x9f then
        return "bundle of version 7"
    end
    return first >= 0xa0 and first <= 0xbf and "extension maps" or nil
end

local function ends_of(pinfo)
    local one = string.format("%s %d", pinfo.src, pinfo.src_port)
    local other = string.format("%s %d", pinfo.dst, pinfo.dst_port)
    return one < other and one .. " " .. other or other .. " " .. one
end

local function dissect_message(tvb, pinfo, tree, root, info)
    local kind = kind_of(tvb(0, 1):uint())
    tree:add(f.message, tvb(), kind or "unassigned"):set_generated()
    info[1] = kind or "unassigned"
    if kind == nil then
        tree:add_proto_expert_info(e.unassigned, string.format("no message begins with 0x%02x", tvb(0, 1):uint()))
    elseif kind == "padding" and tvb:len() == 4 and tvb(0, 4):uint() == 0 then
        tree:add(f.keepalive, tvb())
        info[1] = "keepalive"
    elseif kind == "padding" then
        dissect_padding(tvb, 0, tree)
    elseif kind == "extension maps" then
        info[1] = nil
        dissect_maps(tvb, pinfo, tree, root, info)
    elseif kind == "DTLS record" then
        fault("a DTLS record within DTLS")
    else
        tree:add(f.bundle_length, tvb(), tvb:len()):set_generated()
        dissect_bundle(tvb, pinfo, root, info)
    end
end

-- A datagram, or what one record of DTLS carried.
local function dissect_packet(tvb, pinfo, root, tree, name)
    pinfo.cols.protocol = name
    local info = {}
    local ok, problem = pcall(dissect_message, tvb, pinfo, tree, root, info)
    if not ok then
        if type(problem) ~= "table" then
            error(problem, 0) -- a defect of this script: Wireshark shows it
        end
        local is_cut = tvb:captured_len() < tvb:reported_len()
        tree:add_proto_expert_info(is_cut and e.cut or e.malformed, problem.text)
        info[#info + 1] = is_cut and "cut by the capture" or "malformed: " .. problem.text
    end
    tree:append_text(": " .. table.concat(info, ", "))
    if not info.is_of_bundle then
        pinfo.cols.info = table.concat(info, ", ")
    end
end

function udpcl.dissector(tvb, pinfo, root)
    if tvb:len() == 0 then
        return 0
    end
    local tree = root:add(udpcl, tvb())
    local kind, ends = kind_of(tvb(0, 1):uint()), ends_of(pinfo)
    if kind == "DTLS record" then
        tree:add(f.message, tvb(), kind):set_generated()
        tree:append_text(": " .. kind)
        if tvb(0, 1):uint() == 23 and secured[ends] == nil then
            secured[ends] = pinfo.number
        end
        Dissector.get("dtls"):call(tvb, pinfo, root)
        return tvb:len()
    end
    if secured[ends] ~= nil and secured[ends] < pinfo.number and kind ~= "padding" then
        tree:add_proto_expert_info(e.plain, string.format("plain text, though DTLS carries since frame %d", secured[ends]))
    end
    dissect_packet(tvb, pinfo, root, tree, "UDPCL")
    return tvb:len()
end

function inner.dissector(tvb, pinfo, root)
    if tvb:len() == 0 then
        return 0
    end
    dissect_packet(tvb, pinfo, root, root:add(udpcl, tvb()), "UDPCL/DTLS")
    return tvb:len()
end

-- ---- whose datagrams ---------------------------------------------------------------------------------------------------

-- On other ports only what can be nothing else: maps that hold what they should and fill the datagram (with zeros behind
-- them), and bundles of version 7 by their first octets.
local function is_map(tvb)
    local at, first = 0, true
    while at < tvb:len() and (first or tvb(at, 1):uint() ~= 0) do
        local major, count, cursor = head(tvb, at)
        if major ~= MAP or count == nil or count == 0 or count > 8 then
            return false
        end
        local stop = skip(tvb, at)
        while cursor < stop do
            local key_major, key, value_at = head(tvb, cursor)
            if key_major ~= UINT or key < 1 or key > 8 then
                return false
            end
            cursor = skip(tvb, value_at)
        end
        at, first = stop, false
    end
    return at == tvb:len() or tvb:range(at):bytes() == ByteArray.new(string.rep("00", tvb:len() - at))
end

local function is_bundle(tvb)
    local first = tvb(0, 1):uint()
    return tvb:len() > 20 and first == 0x9f and tvb(1, 1):uint() >= 0x88 and tvb(1, 1):uint() <= 0x8b and tvb(2, 1):uint() == 7
end

local function is_ours(tvb)
    if tvb:len() < 3 then
        return false
    end
    local ok, answer = pcall(function()
        return is_bundle(tvb) or (kind_of(tvb(0, 1):uint()) == "extension maps" and is_map(tvb))
    end)
    return ok and answer
end

udpcl:register_heuristic("udp", function(tvb, pinfo, root)
    if not is_ours(tvb) then
        return false
    end
    pinfo.conversation = udpcl -- what follows: DTLS, keepalives
    udpcl.dissector(tvb, pinfo, root)
    return true
end)

inner:register_heuristic("dtls", function(tvb, pinfo, root)
    if not is_ours(tvb) then
        return false
    end
    inner.dissector(tvb, pinfo, root)
    return true
end)

DissectorTable.get("udp.port"):add(PORT, udpcl)
DissectorTable.get("dtls.port"):add(PORT, inner)
