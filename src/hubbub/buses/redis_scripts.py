"""The queue in Redis: every step is one script, so it happens as a whole or not at all.

NAME is the setting `redis_tasks_queue_name`. Its braces make one hash tag, so that all keys live in one place.

| key | kind | what | until |
| --- | --- | --- | --- |
| `{NAME}:run:RUN` | hash | task, attempt, state, place, fence, who has it, its end | a day; 15 min from its end on |
| `{NAME}:text:RUN` | string | the text so far, UTF-8; its length is the cursor | with its run |
| `{NAME}:wait:ENGINE` | sorted set | round -> number of arrival and run, as core/turns.py orders | a day |
| `{NAME}:since:ENGINE` | sorted set | the same by when it was put, in ms | a day |
| `{NAME}:last:ENGINE` | sorted set | the round of each member's newest task | a day |
| `{NAME}:turn:ENGINE` | hash | the round being served, and how fast tasks are taken | a day |
| `{NAME}:leases` | sorted set | runs by when their lease ends, in ms of Redis's own clock | a day |
| `{NAME}:n` | number | arrivals | a day |
| `{NAME}:fence` | number | takings; not below the time in µs, so that it grows over a flush | a day |
| `{NAME}:took:TOKEN` | list | what one TAKE took, so that the same TAKE again takes nothing more | a lease |
| `{NAME}:events` | channel | words for those who show answers (redis_words.py) | |
| `{NAME}:work` | channel | words for those who write them | |

A day is counted from the last change.

A run's `state` is queued, running, lost, cancelled, or how it ended. Whoever writes proves with worker and fence that
the lease is still theirs; nobody else can write or end anything. KEYS[1] is `{NAME}`; the other keys are made from it.
"""

from __future__ import annotations

import hashlib

DAY_MS = 86_400_000
KEEP_MS = 900_000
"""How long what has ended is kept for those who have not heard of it."""

_PRELUDE = """
local base = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leases = base .. ':leases'
local function run_of(id) return base .. ':run:' .. id end
local function text_of(id) return base .. ':text:' .. id end
local function tell(word) redis.call('PUBLISH', base .. ':events', cjson.encode(word)) end
local function work(word) redis.call('PUBLISH', base .. ':work', cjson.encode(word)) end
local function keep(ms, ...)
  for _, key in ipairs({...}) do redis.call('PEXPIRE', key, ms) end
end
local function leave(id)
  local engine, place = unpack(redis.call('HMGET', run_of(id), 'engine', 'place'))
  if engine and place then
    redis.call('ZREM', base .. ':wait:' .. engine, place)
    redis.call('ZREM', base .. ':since:' .. engine, place)
  end
  redis.call('ZREM', leases, id)
end
local function lose(id)
  redis.call('ZREM', leases, id)
  local attempt, state = unpack(redis.call('HMGET', run_of(id), 'attempt', 'state'))
  if state == 'running' then
    redis.call('HSET', run_of(id), 'state', 'lost')
    tell({word = 'lost', run = id, attempt = tonumber(attempt)})
  end
end
local function holds(id, worker, fence, state)
  local has = redis.call('HMGET', run_of(id), 'worker', 'fence', 'state')
  return has[1] == worker and has[2] == fence and has[3] == state
end
"""

PUT = """
local id, attempt, engine, member, task, most, day = unpack(ARGV)
attempt, most = tonumber(attempt), tonumber(most)
local wait, since = base .. ':wait:' .. engine, base .. ':since:' .. engine
local last, turn = base .. ':last:' .. engine, base .. ':turn:' .. engine
local known, state, place = unpack(redis.call('HMGET', run_of(id), 'attempt', 'state', 'place'))
known = tonumber(known or 0)
if known > attempt or (known == attempt and state ~= 'queued') then return {'ok', 0} end
if known == attempt then
  local rank = redis.call('ZRANK', wait, place)
  if rank then return {'ok', rank + 1} end
end
local count = redis.call('ZCARD', wait)
if attempt == 1 and count >= most then
  return {'full', count, math.floor(tonumber(redis.call('HGET', turn, 'gap') or 5000))}
end
leave(id)
redis.call('DEL', run_of(id), text_of(id))
local round = -1
if attempt == 1 then
  round = math.max(tonumber(redis.call('HGET', turn, 'round') or 0), (redis.call('ZSCORE', last, member) or -1) + 1)
  redis.call('ZADD', last, round, member)
end
place = string.format('%016d', redis.call('INCR', base .. ':n')) .. id
redis.call('ZADD', wait, round, place)
redis.call('ZADD', since, now, place)
redis.call('HSET', run_of(id), 'attempt', attempt, 'state', 'queued', 'engine', engine, 'task', task, 'place', place,
  'put', now)
keep(day, run_of(id), wait, since, last, turn, base .. ':n')
work({word = 'bell', engine = engine})
return {'ok', redis.call('ZRANK', wait, place) + 1}
"""

TAKE = """
local token, engine, limit, window, lease, worker, day = unpack(ARGV)
limit = tonumber(limit)
local wait, since = base .. ':wait:' .. engine, base .. ':since:' .. engine
local last, turn, took = base .. ':last:' .. engine, base .. ':turn:' .. engine, base .. ':took:' .. token
local batch = {}
local again = redis.call('LRANGE', took, 0, -1)
if #again > 0 then
  for _, id in ipairs(again) do
    local task, fence, has, state = unpack(redis.call('HMGET', run_of(id), 'task', 'fence', 'token', 'state'))
    if has == token and state == 'running' then batch[#batch + 1] = {id, task, fence, 0} end
  end
  return {'taken', batch}
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do lose(id) end
local next = redis.call('ZRANGE', wait, 0, 0, 'WITHSCORES')
if #next == 0 then return {'none', 0} end
local oldest = redis.call('ZRANGE', since, 0, 0, 'WITHSCORES')
local left = (oldest[2] or now) + window - now
if left > 0 and redis.call('ZCARD', wait) < limit and tonumber(next[2]) >= 0 then return {'none', math.ceil(left)} end
local round = tonumber(redis.call('HGET', turn, 'round') or 0)
while #next > 0 and #batch < limit do
  local place, turned = next[1], tonumber(next[2])
  if #batch > 0 and turned < 0 then break end
  redis.call('ZREM', wait, place)
  redis.call('ZREM', since, place)
  round = math.max(round, turned)
  local id = string.sub(place, 17)
  local task, put, mine = unpack(redis.call('HMGET', run_of(id), 'task', 'put', 'place'))
  if task and mine == place then
    local fence = math.max(tonumber(redis.call('GET', base .. ':fence') or 0) + 1, time[1] * 1000000 + time[2])
    fence = string.format('%.0f', fence)
    redis.call('SET', base .. ':fence', fence)
    redis.call('HSET', run_of(id), 'state', 'running', 'fence', fence, 'worker', worker, 'token', token)
    redis.call('DEL', text_of(id))
    redis.call('ZADD', leases, now + lease, id)
    redis.call('RPUSH', took, id)
    keep(day, run_of(id))
    batch[#batch + 1] = {id, task, fence, math.max(0, now - put)}
    if turned < 0 then break end
  end
  next = redis.call('ZRANGE', wait, 0, 0, 'WITHSCORES')
end
redis.call('ZREMRANGEBYSCORE', last, '-inf', '(' .. round)
if #batch > 0 then
  local at, gap = unpack(redis.call('HMGET', turn, 'at', 'gap'))
  gap = tonumber(gap or 5000)
  if at and #next > 0 then gap = gap + ((now - at) / #batch - gap) / 4 end
  redis.call('HSET', turn, 'round', round, 'at', now, 'gap', gap)
  keep(day, turn, leases, base .. ':fence')
  keep(lease, took)
end
return {'taken', batch}
"""

EMIT = """
local id, worker, fence, offset, text, word, day = unpack(ARGV)
if not holds(id, worker, fence, 'running') then return {'fenced', 0} end
local have = redis.call('STRLEN', text_of(id))
if have ~= tonumber(offset) then return {'at', have} end
have = redis.call('APPEND', text_of(id), text)
keep(day, text_of(id))
redis.call('PUBLISH', base .. ':events', word)
return {'ok', have}
"""

DONE = """
local id, worker, fence, offset, text, word, state, ended, kept = unpack(ARGV)
if holds(id, worker, fence, state) then return {'ok', 0} end
if not holds(id, worker, fence, 'running') then return {'fenced', 0} end
local have = redis.call('STRLEN', text_of(id))
if have ~= tonumber(offset) then return {'at', have} end
if #text > 0 then redis.call('APPEND', text_of(id), text) end
redis.call('HSET', run_of(id), 'state', state, 'ended', ended)
redis.call('ZREM', leases, id)
keep(kept, run_of(id), text_of(id))
if #word > 0 then redis.call('PUBLISH', base .. ':events', word) end
redis.call('PUBLISH', base .. ':events', ended)
return {'ok', 1}
"""

RENEW = """
local worker, lease, day = unpack(ARGV)
local gone = {}
for at = 4, #ARGV, 2 do
  if holds(ARGV[at], worker, ARGV[at + 1], 'running') then
    redis.call('ZADD', leases, now + lease, ARGV[at])
    keep(day, run_of(ARGV[at]), text_of(ARGV[at]))
  else
    gone[#gone + 1] = ARGV[at]
  end
end
keep(day, leases)
return gone
"""

RELEASE = """
local id, worker, fence, day = unpack(ARGV)
if not holds(id, worker, fence, 'running') then return 0 end
if redis.call('STRLEN', text_of(id)) > 0 then lose(id) return 1 end
local engine, place = unpack(redis.call('HMGET', run_of(id), 'engine', 'place'))
redis.call('ZREM', leases, id)
redis.call('HSET', run_of(id), 'state', 'queued', 'worker', '')
redis.call('ZADD', base .. ':wait:' .. engine, -1, place)
redis.call('ZADD', base .. ':since:' .. engine, now, place)
keep(day, base .. ':wait:' .. engine, base .. ':since:' .. engine)
work({word = 'bell', engine = engine})
return 1
"""

CANCEL = """
local id, node, kept = unpack(ARGV)
local state = redis.call('HGET', run_of(id), 'state')
leave(id)
if state == 'queued' then
  redis.call('DEL', run_of(id))
elseif state == 'running' or state == 'lost' then
  redis.call('HSET', run_of(id), 'state', 'cancelled')
  keep(kept, run_of(id), text_of(id))
end
work({word = 'stop', run = id, forget = false, node = node})
tell({word = 'stop', run = id, forget = false, node = node})
return 1
"""

FORGET = """
local id, node = unpack(ARGV)
leave(id)
redis.call('DEL', run_of(id), text_of(id))
work({word = 'stop', run = id, forget = true, node = node})
tell({word = 'stop', run = id, forget = true, node = node})
return 1
"""

STATUS = """
local found = {}
for at, id in ipairs(ARGV) do
  local attempt, state = unpack(redis.call('HMGET', run_of(id), 'attempt', 'state'))
  if state == 'running' and tonumber(redis.call('ZSCORE', leases, id) or 0) <= now then
    lose(id)
    state = 'lost'
  end
  found[at] = {tonumber(attempt or 0), state or '', redis.call('STRLEN', text_of(id))}
end
return found
"""

READ = """
local run = redis.call('HMGET', run_of(ARGV[1]), 'attempt', 'state', 'task', 'ended')
local text = redis.call('GET', text_of(ARGV[1]))
return {tonumber(run[1] or 0), run[2] or '', run[3] or '', run[4] or '', text or ''}
"""

PLACE = """
local engine, place = unpack(redis.call('HMGET', run_of(ARGV[1]), 'engine', 'place'))
if not (engine and place) then return 0 end
return (redis.call('ZRANK', base .. ':wait:' .. engine, place) or -1) + 1
"""

SCRIPTS = {
    name: _PRELUDE + body
    for name, body in {
        "PUT": PUT,
        "TAKE": TAKE,
        "EMIT": EMIT,
        "DONE": DONE,
        "RENEW": RENEW,
        "RELEASE": RELEASE,
        "CANCEL": CANCEL,
        "FORGET": FORGET,
        "STATUS": STATUS,
        "READ": READ,
        "PLACE": PLACE,
    }.items()
}
SHA = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in SCRIPTS.items()}
