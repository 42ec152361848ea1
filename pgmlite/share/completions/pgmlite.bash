# Completion of pgmlite for bash.
# Written by tests/generate.py from the command line: do not edit.

_pgmlite() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' at
    # --option=value comes as three words.
    if [[ $word == = ]]; then
        word=''
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        if [[ ${COMP_WORDS[at]} != -* ]]; then
            verb=${COMP_WORDS[at]}
            break
        fi
    done
    COMPREPLY=()
    case $verb in
        '')
            COMPREPLY=($(compgen -W 'send recv repair keygen sign verify compare replay info list doctor demo --version -h --help' -- "$word"))
            ;;
        send)
            case $before in
                -g | --group | -p | --port | --source | --hops | --name | --channel | --block-symbols | --mtu | --symbol-size | --repairer | --cycles | --duration | --listen | --repair-share | --print-dns)
                    return ;;
                -i | --interface)
                    COMPREPLY=($(cd /sys/class/net && compgen -f -- "$word"))
                    return ;;
                -r | --rate)
                    COMPREPLY=($(compgen -W 'max' -- "$word"))
                    return ;;
                --fec | --log-interval)
                    COMPREPLY=($(compgen -W 'off' -- "$word"))
                    return ;;
                --order)
                    COMPREPLY=($(compgen -W 'rounds blocks' -- "$word"))
                    return ;;
                --start)
                    COMPREPLY=($(compgen -W 'random' -- "$word"))
                    return ;;
                --content)
                    compopt -o default
                    return ;;
                --spool)
                    compopt -o dirnames
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '-g --group -p --port -i --interface --source -r --rate --hops --name --channel --fec --block-symbols --mtu --symbol-size --repairer --order --start --cycles --duration --follow --repair --listen --repair-share --content --spool --print-dns --log-interval --json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        recv)
            case $before in
                -o | --output | --device | --key | --base | --config)
                    compopt -o default
                    return ;;
                --spool)
                    compopt -o dirnames
                    return ;;
                --keep | -g | --group | -p | --port | --source | --object | --stream | --name | --timeout | --repairer | --rate-limit | --max-size | --hook-timeout | --drop | --seed)
                    return ;;
                -i | --interface)
                    COMPREPLY=($(cd /sys/class/net && compgen -f -- "$word"))
                    return ;;
                --channels)
                    COMPREPLY=($(compgen -W 'auto' -- "$word"))
                    return ;;
                --on-complete)
                    COMPREPLY=($(compgen -c -- "$word"))
                    return ;;
                --log-interval)
                    COMPREPLY=($(compgen -W 'off' -- "$word"))
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '-o --output --device --spool --keep -g --group -p --port -i --interface --source --object --key --stream --name --allow-rollback --timeout --no-nak --repairer --channels --rate-limit --max-size --on-complete --hook-timeout --drop --seed --base --verify-media --follow --config --log-interval --json -h --help' -- "$word"))
            fi
            ;;
        repair)
            case $before in
                --content)
                    compopt -o default
                    return ;;
                --spool)
                    compopt -o dirnames
                    return ;;
                -g | --group | -p | --port | --source | --hops | --listen)
                    return ;;
                -i | --interface)
                    COMPREPLY=($(cd /sys/class/net && compgen -f -- "$word"))
                    return ;;
                -r | --rate)
                    COMPREPLY=($(compgen -W 'max' -- "$word"))
                    return ;;
                --log-interval)
                    COMPREPLY=($(compgen -W 'off' -- "$word"))
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--content --spool -g --group -p --port -i --interface --source -r --rate --hops --listen --log-interval --json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        keygen)
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        sign)
            case $before in
                --key | -o | --output | --message | --public-key | --signature)
                    compopt -o default
                    return ;;
                --release | --stream | --expires | --name | --channel | --block-symbols | --mtu | --symbol-size | --repairer | -p | --port | --hops)
                    return ;;
                --fec)
                    COMPREPLY=($(compgen -W 'off' -- "$word"))
                    return ;;
                --spool)
                    compopt -o dirnames
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--key --release --stream --expires -o --output --message --public-key --signature --name --channel --fec --block-symbols --mtu --symbol-size --repairer -p --port --hops --spool --json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        verify)
            case $before in
                --key | --content)
                    compopt -o default
                    return ;;
                --spool)
                    compopt -o dirnames
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--key --content --spool --json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        compare)
            case $before in
                --size | -r | --rate | --receivers | --loss | --loss-kind | --burst | --modes | --fec | --order | --repair-share | --latency | --join | --repetitions | --seed | -j | --jobs | --dask)
                    return ;;
                --csv | --plot)
                    compopt -o default
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--size -r --rate --receivers --loss --loss-kind --burst --modes --fec --order --repair-share --latency --join --repetitions --seed -j --jobs --dask --csv --plot --json --list -h --help' -- "$word"))
            else
                compopt -o default
                COMPREPLY=($(compgen -W 'kinds lab large million rates' -- "$word"))
            fi
            ;;
        replay)
            case $before in
                -o | --output | --key)
                    compopt -o default
                    return ;;
                -g | --group | -p | --port | --object | --stream | --name | --from | --until | --drop | --reorder | --seed | --repairer)
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '-o --output -g --group -p --port --object --key --stream --name --from --until --drop --reorder --seed --realtime --no-nak --no-checksum --repairer --json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        info)
            case $before in
                --name | --channel | --block-symbols | --mtu | --symbol-size | --repairer | -p | --port | --hops)
                    return ;;
                --fec)
                    COMPREPLY=($(compgen -W 'off' -- "$word"))
                    return ;;
                --spool)
                    compopt -o dirnames
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--no-checksum --name --channel --fec --block-symbols --mtu --symbol-size --repairer -p --port --hops --spool --json -h --help' -- "$word"))
            else
                compopt -o default
            fi
            ;;
        list)
            case $before in
                -g | --group | -p | --port | --source | --seconds)
                    return ;;
                -i | --interface)
                    COMPREPLY=($(cd /sys/class/net && compgen -f -- "$word"))
                    return ;;
                --key)
                    compopt -o default
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '-g --group -p --port -i --interface --source --key --seconds --json -h --help' -- "$word"))
            fi
            ;;
        doctor)
            case $before in
                -g | --group | -p | --port | --source | --object | --seconds)
                    return ;;
                -i | --interface)
                    COMPREPLY=($(cd /sys/class/net && compgen -f -- "$word"))
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '-g --group -p --port -i --interface --source --object --seconds --json -h --help' -- "$word"))
            fi
            ;;
        demo)
            case $before in
                --size | -r | --rate)
                    return ;;
            esac
            if [[ $word == -* ]]; then
                COMPREPLY=($(compgen -W '--size -r --rate --json -h --help' -- "$word"))
            fi
            ;;
    esac
}

complete -F _pgmlite pgmlite
