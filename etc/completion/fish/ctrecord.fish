# fish completion: the commands of ctrecorder answer, by argcomplete's protocol on descriptor 8.
function __fish_ctrecorder
    set -lx _ARGCOMPLETE 1
    set -lx _ARGCOMPLETE_DFS \t
    set -lx _ARGCOMPLETE_IFS \n
    set -lx _ARGCOMPLETE_SUPPRESS_SPACE 1
    set -lx _ARGCOMPLETE_SHELL fish
    set -lx COMP_LINE (commandline -p)
    set -lx COMP_POINT (string length (commandline -cp))
    set -lx COMP_TYPE
    set -l asked (commandline -po)
    $asked[1] 8>&1 9>&2 1>/dev/null 2>&1
end
for command in ctrecord ctlist cttest ctsqueeze ctexpire ctship ctwho
    complete --command $command --no-files --arguments '(__fish_ctrecorder)'
end
