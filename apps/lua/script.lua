-- A little of everything: numbers, strings, files, coroutines.
print(_VERSION)

local sieve, count = {}, 0
for i = 2, 999 do
  if not sieve[i] then
    count = count + 1
    for j = i * i, 999, i do sieve[j] = true end
  end
end
print("primes below 1000: " .. count)

local name = os.tmpname()
local f = assert(io.open(name, "w"))
f:write("one\ntwo\nthree\n")
f:close()
local n = 0
for _ in io.lines(name) do n = n + 1 end
os.remove(name)
print(("file: kept %d lines"):format(n))

local fib = coroutine.wrap(function()
  local a, b = 1, 1
  while true do
    coroutine.yield(a)
    a, b = b, a + b
  end
end)
local out = {}
for i = 1, 8 do out[i] = fib() end
print("coroutine: " .. table.concat(out, " "))
